//! Medians over the rounds, the table, and which goals were reached.

use std::{collections::BTreeMap, process::Command};

use serde_json::{Value, json};

use super::{
    Size,
    load::{AGENT, DIRECT, HUB, HUB_HTTPS, Load, NGINX},
};
use crate::say;

/// All figures of a run.
pub(crate) struct Report {
    conditions: String,
    /// nginx's version and settings, when it took part.
    pub(crate) nginx: Option<String>,
    /// `target` and `load/figure` to one value a round.
    figures: BTreeMap<(&'static str, String), Vec<f64>>,
    idle: &'static [usize],
}

impl Report {
    pub(crate) fn new(size: &Size, build: &str) -> Self {
        Self {
            conditions: conditions(size, build),
            nginx: None,
            figures: BTreeMap::new(),
            idle: size.idle,
        }
    }

    /// Keeps every number of a load's report under its path.
    pub(crate) fn add(&mut self, target: &'static str, load: Load, report: &Value) {
        if let Load::Idle(_) = load {
            for step in report.get("idle").and_then(Value::as_array).into_iter().flatten() {
                let value = |key: &str| step.get(key).and_then(Value::as_f64).unwrap_or_default();
                self.keep(target, format!("idle/{}", value("streams")), value("bytes_each"));
            }
            return;
        }
        let numbers = report.as_object().into_iter().flatten();
        for (name, value) in numbers {
            if let Some(number) = value.as_f64() {
                self.keep(target, format!("{}/{name}", load.key()), number);
            }
            for (inner, value) in value.as_object().into_iter().flatten() {
                let number = value.as_f64().unwrap_or_default();
                self.keep(target, format!("{}/{name}/{inner}", load.key()), number);
            }
        }
    }

    fn keep(&mut self, target: &'static str, figure: String, value: f64) {
        self.figures.entry((target, figure)).or_default().push(value);
    }

    /// The targets that took part, in the order of the table.
    pub(crate) fn targets(&self) -> Vec<&'static str> {
        let took_part = |name: &&'static str| self.figures.keys().any(|(target, _)| target == name);
        [DIRECT, NGINX, HUB, HUB_HTTPS, AGENT]
            .into_iter()
            .filter(took_part)
            .collect()
    }

    fn median(&self, target: &'static str, figure: &str) -> Option<f64> {
        let mut values = self.figures.get(&(target, figure.to_owned()))?.clone();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        if values.len() % 2 == 1 {
            return values.get(middle).copied();
        }
        Some((values.get(middle)? + values.get(middle.checked_sub(1)?)?) / 2.0)
    }

    /// Above what the vendor itself takes.
    fn added(&self, target: &'static str, figure: &str) -> Option<f64> {
        Some(self.median(target, figure)? - self.median(DIRECT, figure)?)
    }

    fn ratio(&self, target: &'static str, figure: &str) -> Option<f64> {
        Some(self.median(target, figure)? / self.median(NGINX, figure)?).filter(|ratio| ratio.is_finite())
    }

    /// The table in Markdown, the goals, the conditions.
    pub(crate) fn text(&self) -> String {
        let mut out = self.table();
        out.push('\n');
        let mut rows = vec![["goal", "measured", "verdict"].map(String::from).to_vec()];
        for goal in self.goals() {
            let measured = goal
                .measured
                .map_or_else(|| "not measured".to_owned(), |value| format!("{value:.2}"));
            rows.push(vec![goal.what.to_owned(), measured, goal.verdict().to_owned()]);
        }
        out.push_str(&say::markdown(&rows));
        out.push_str(&format!("\n{}\n", self.conditions));
        if let Some(nginx) = &self.nginx {
            out.push_str(&format!("nginx: {nginx}.\n"));
        }
        out
    }

    fn table(&self) -> String {
        let targets = self.targets();
        let mut rows = vec![
            std::iter::once("")
                .chain(targets.iter().copied())
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        ];
        for row in self.rows() {
            let mut cells = vec![row.title];
            for target in &targets {
                let pick = |figure: &String| match row.from {
                    From::Itself => self.median(target, figure),
                    From::Added if *target == DIRECT => None,
                    From::Added => self.added(target, figure),
                };
                let values: Vec<_> = row
                    .figures
                    .iter()
                    .filter_map(pick)
                    .map(|value| (row.show)(value))
                    .collect();
                let is_void = *target == DIRECT && row.is_cost;
                cells.push(if values.is_empty() || is_void {
                    "–".to_owned()
                } else {
                    values.join(" / ")
                });
            }
            rows.push(cells);
        }
        say::markdown(&rows)
    }

    fn rows(&self) -> Vec<Row> {
        let row = |title: &str, figures: &[&str], from, show, is_cost| Row {
            title: title.to_owned(),
            figures: figures.iter().map(|figure| (*figure).to_owned()).collect(),
            from,
            show,
            is_cost,
        };
        let mut rows = vec![
            row(
                "requests/s, 32 connections",
                &["unary32/per_second"],
                From::Itself,
                whole,
                false,
            ),
            row(
                "requests/s, 128 connections",
                &["unary128/per_second"],
                From::Itself,
                whole,
                false,
            ),
            row(
                "CPU s per 10,000 requests, 32",
                &["unary32/cpu_seconds_per_10000"],
                From::Itself,
                fine,
                true,
            ),
            row(
                "CPU s per 10,000 requests, 128",
                &["unary128/cpu_seconds_per_10000"],
                From::Itself,
                fine,
                true,
            ),
            row(
                "added ms a request alone, p50 / p99",
                &["unary1/latency/p50_ms", "unary1/latency/p99_ms"],
                From::Added,
                fine,
                false,
            ),
            row(
                "added ms a request, 32 connections, p50 / p99",
                &["unary32/latency/p50_ms", "unary32/latency/p99_ms"],
                From::Added,
                fine,
                false,
            ),
            row(
                "stream events/s, flat out",
                &["flat/per_second"],
                From::Itself,
                whole,
                false,
            ),
            row(
                "added ms to first byte, 100 streams, p50 / p99",
                &["paced/first_byte/p50_ms", "paced/first_byte/p99_ms"],
                From::Added,
                fine,
                false,
            ),
            row(
                "event delay in ms, 100 streams × 10 ms, p50 / p99",
                &["paced/event_delay/p50_ms", "paced/event_delay/p99_ms"],
                From::Itself,
                fine,
                false,
            ),
        ];
        for step in self.idle {
            let title = format!("KB per idle stream at {step}");
            rows.push(row(&title, &[&format!("idle/{step}")], From::Itself, kilobytes, true));
        }
        rows
    }

    fn goals(&self) -> Vec<Goal> {
        let at_least = |what, measured, bound| Goal {
            what,
            measured,
            bound,
            more_is_better: true,
        };
        let at_most = |what, measured, bound| Goal {
            what,
            measured,
            bound,
            more_is_better: false,
        };
        let idle = |at: usize| {
            let step = self.idle.get(at)?;
            self.median(HUB, &format!("idle/{step}")).map(|bytes| bytes / 1024.0)
        };
        vec![
            at_least(
                "hub ≥ 0.5 × nginx's requests/s, 32 connections",
                self.ratio(HUB, "unary32/per_second"),
                0.5,
            ),
            at_least(
                "hub ≥ 0.5 × nginx's requests/s, 128 connections",
                self.ratio(HUB, "unary128/per_second"),
                0.5,
            ),
            at_most(
                "hub ≤ 2 × nginx's CPU, 32 connections",
                self.ratio(HUB, "unary32/cpu_seconds"),
                2.0,
            ),
            at_most(
                "hub ≤ 2 × nginx's CPU, 128 connections",
                self.ratio(HUB, "unary128/cpu_seconds"),
                2.0,
            ),
            at_least(
                "hub ≥ 0.5 × nginx's stream events/s",
                self.ratio(HUB, "flat/per_second"),
                0.5,
            ),
            at_most(
                "hub adds ≤ 0.3 ms to the first byte, p50",
                self.added(HUB, "paced/first_byte/p50_ms"),
                0.3,
            ),
            at_most(
                "agent + hub add ≤ 0.7 ms, p50",
                self.added(AGENT, "paced/first_byte/p50_ms"),
                0.7,
            ),
            at_most("hub ≤ 40 KB per idle stream, fewer streams", idle(0), 40.0),
            at_most("hub ≤ 40 KB per idle stream, more streams", idle(1), 40.0),
        ]
    }

    /// Everything, for programs: medians, each round's values, goals, conditions.
    pub(crate) fn json(&self) -> Value {
        let mut targets = serde_json::Map::new();
        for ((target, figure), values) in &self.figures {
            let kept = json!({ "median": self.median(target, figure), "rounds": values });
            let entry = targets.entry(*target).or_insert_with(|| json!({}));
            if let Some(figures) = entry.as_object_mut() {
                figures.insert(figure.clone(), kept);
            }
        }
        let goals = self.goals();
        let goals: Vec<_> = goals
            .iter()
            .map(|goal| json!({ "goal": goal.what, "measured": goal.measured, "verdict": goal.verdict() }))
            .collect();
        json!({ "conditions": self.conditions, "nginx": self.nginx, "goals": goals, "targets": targets })
    }
}

struct Row {
    title: String,
    figures: Vec<String>,
    from: From,
    show: fn(f64) -> String,
    /// What a target takes of the machine: nothing is told for going direct.
    is_cost: bool,
}

#[derive(Clone, Copy)]
enum From {
    Itself,
    Added,
}

struct Goal {
    what: &'static str,
    measured: Option<f64>,
    bound: f64,
    more_is_better: bool,
}

impl Goal {
    fn verdict(&self) -> &'static str {
        match self.measured {
            None => "–",
            Some(value) if (value >= self.bound) == self.more_is_better || value == self.bound => "reached",
            Some(_) => "missed",
        }
    }
}

fn whole(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn fine(value: f64) -> String {
    format!("{value:.2}")
}

fn kilobytes(bytes: f64) -> String {
    format!("{:.1}", bytes / 1024.0)
}

fn conditions(size: &Size, build: &str) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let system = Command::new("uname")
        .args(["-sm"])
        .output()
        .map(|said| said.stdout)
        .unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "Conditions: {cores} cores, {}, shared by the load generator (one thread), the scripted vendor and what is \
         measured; {build}, authentication, durable hold and settlement on every call; medians of {} rounds of \
         {} small calls ({} alone), {} streams of 20,000 events in writes of at most 16 KiB, 100 streams of {} \
         events; memory is the growth of resident memory, of agent and hub together where both are in the way, all \
         streams over one connection between them. Load average at the start: {}.",
        String::from_utf8_lossy(&system).trim(),
        size.rounds,
        size.requests,
        size.alone,
        size.streams,
        size.paced_events,
        load.split(' ').next().unwrap_or("unknown"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios_come_from_all_rounds() {
        let mut report = Report::new(&super::super::QUICK, "test build");
        for (nginx, hub) in [(100.0, 40.0), (300.0, 90.0), (200.0, 120.0)] {
            report.keep(NGINX, "unary32/per_second".to_owned(), nginx);
            report.keep(HUB, "unary32/per_second".to_owned(), hub);
        }
        assert_eq!(report.median(NGINX, "unary32/per_second"), Some(200.0));
        assert_eq!(report.ratio(HUB, "unary32/per_second"), Some(0.45));
        let goals = report.goals();
        assert_eq!(goals[0].verdict(), "missed");
        assert_eq!(goals[1].verdict(), "–");
    }

    #[test]
    fn thousands_are_parted() {
        assert_eq!(
            [whole(12.0), whole(1234.4), whole(1_234_567.0)],
            ["12", "1,234", "1,234,567"]
        );
    }
}
