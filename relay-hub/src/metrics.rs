//! The text of a scrape, as Prometheus and whatever reads OpenMetrics take it. Knows no meaning: whoever counts tells
//! its own figures. Label values are words of ours, never anything from outside.

use std::fmt::{Display, Write as _};

/// Which of the two texts is asked for; they differ in the names of counters and in their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// By what a scraper accepts.
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// The media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A label and its value.
pub type Label = (&'static str, &'static str);

/// A scrape as it is written.
pub struct Page {
    text: String,
    format: Format,
}

impl Page {
    /// An empty one.
    pub fn new(format: Format) -> Self {
        let text = String::with_capacity(8 * 1024);
        Self { text, format }
    }

    /// A counter that has no labels. `name` is without `_total`.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.counters(name, help, [([], value)]);
    }

    /// A counter by labels.
    pub fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = ([Label; N], u64)>,
    ) {
        let family = match self.format {
            Format::Prometheus => format!("{name}_total"),
            Format::OpenMetrics => name.to_owned(),
        };
        self.head(&family, "counter", help);
        for (labels, value) in samples {
            self.sample(&format!("{name}_total"), &labels, value);
        }
    }

    /// Something that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.sample(name, &[], value);
    }

    /// The same by labels.
    pub fn gauges<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = ([Label; N], u64)>,
    ) {
        self.head(name, "gauge", help);
        for (labels, value) in samples {
            self.sample(name, &labels, value);
        }
    }

    /// The whole text.
    pub fn end(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn head(&mut self, family: &str, kind: &str, help: &str) {
        // A string takes all that is written.
        writeln!(self.text, "# HELP {family} {help}\n# TYPE {family} {kind}").ok();
    }

    fn sample(&mut self, name: &str, labels: &[Label], value: impl Display) {
        self.text.push_str(name);
        for (at, (label, word)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            write!(self.text, "{before}{label}=\"{word}\"").ok();
        }
        let after = if labels.is_empty() { "" } else { "}" };
        writeln!(self.text, "{after} {value}").ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(format: Format) -> String {
        let mut page = Page::new(format);
        page.counters("calls", "Calls.", [([("wire", "chat"), ("ending", "failed")], 3)]);
        page.counter("lost", "Lost.", 0);
        page.gauge("open", "Open.", -1);
        page.end()
    }

    #[test]
    fn both_formats_are_as_their_readers_want_them() {
        let prometheus = "# HELP calls_total Calls.\n# TYPE calls_total counter\ncalls_total{wire=\"chat\",ending=\"failed\"} 3\n\
            # HELP lost_total Lost.\n# TYPE lost_total counter\nlost_total 0\n# HELP open Open.\n# TYPE open gauge\nopen -1\n";
        assert_eq!(text(Format::accepted("*/*")), prometheus);
        let open = text(Format::accepted(
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
        ));
        assert!(
            open.starts_with("# HELP calls Calls.\n# TYPE calls counter\ncalls_total{"),
            "{open}"
        );
        assert!(open.ends_with("open -1\n# EOF\n"), "{open}");
    }
}
