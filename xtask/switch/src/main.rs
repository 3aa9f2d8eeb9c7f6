//! Puts changes into a file so that each can be switched on while the program runs: one build serves all of them. What
//! has no such form, as in a constant, is told, and has to be built by itself. Reads a file with its changes on stdin,
//! writes the changed file and what is left to stdout, all as JSON. Knows no tests.
//!
//! A program of its own: it asks of proc-macro2 to tell places, and in the workspace every macro would be built for that
//! again.

use std::{
    collections::BTreeMap,
    error::Error,
    io::{stdin, stdout},
};

use proc_macro2::{LineColumn, Span};
use serde::{Deserialize, Serialize};
use syn::{spanned::Spanned as _, visit::Visit};

#[derive(Deserialize)]
struct Asked {
    text: String,
    /// Each with its number.
    mutants: Vec<(usize, Mutant)>,
}

#[derive(Serialize)]
struct Changed {
    text: String,
    /// The numbers of those that are not in it.
    left: Vec<usize>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let asked: Asked = serde_json::from_reader(stdin().lock())?;
    let mutants: Vec<_> = asked.mutants.iter().map(|(number, mutant)| (*number, mutant)).collect();
    let (text, left) = put_in(&asked.text, &mutants)?;
    Ok(serde_json::to_writer(stdout().lock(), &Changed { text, left })?)
}

/// A change, as cargo-mutants lists it.
#[derive(Debug, Clone, Deserialize)]
struct Mutant {
    genre: String,
    replacement: String,
    span: Place,
    function: Option<Function>,
}

#[derive(Debug, Clone, Deserialize)]
struct Function {
    return_type: String,
}

/// Lines and columns count from one.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Place {
    start: Point,
    end: Point,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Point {
    line: usize,
    column: usize,
}

/// Text around a part of the file.
struct Wrap {
    start: usize,
    end: usize,
    before: String,
    after: String,
}

/// The file with the numbered changes in it, and the numbers of those that it has not.
fn put_in(text: &str, mutants: &[(usize, &Mutant)]) -> syn::Result<(String, Vec<usize>)> {
    // What asks a variable is not constant.
    let text = text.replace("const fn ", "fn       ");
    let file = syn::parse_file(&text)?;
    let mut forms = Forms {
        lines: Lines::of(&text),
        by_place: BTreeMap::new(),
        wraps: Vec::new(),
        replaced: Vec::new(),
        done: Vec::new(),
    };
    for (number, mutant) in mutants {
        forms
            .by_place
            .entry(mutant.span.start)
            .or_default()
            .push((*number, mutant));
    }
    forms.bodies_and_guards();
    forms.visit_file(&file);
    let is_left = |number: &usize| !forms.done.contains(number);
    let left = mutants.iter().map(|(number, _)| *number).filter(is_left).collect();
    Ok((written(&text, forms.wraps, forms.replaced), left))
}

struct Forms<'a> {
    lines: Lines,
    by_place: BTreeMap<Point, Vec<(usize, &'a Mutant)>>,
    wraps: Vec<Wrap>,
    /// Parts of the text with what stands there instead.
    replaced: Vec<(usize, usize, String)>,
    done: Vec<usize>,
}

impl Forms<'_> {
    fn wrap(&mut self, (start, end): (usize, usize), before: String, after: &str) {
        self.wraps.push(Wrap {
            start,
            end,
            before,
            after: after.to_owned(),
        });
    }

    /// Changes whose place is told in full by the list.
    fn bodies_and_guards(&mut self) {
        let all: Vec<(usize, &Mutant)> = self.by_place.values().flatten().copied().collect();
        for (number, mutant) in all {
            let part = (self.lines.offset(mutant.span.start), self.lines.offset(mutant.span.end));
            let (is, value) = (format!("crate::mutant::is({number})"), &mutant.replacement);
            let returned = mutant.function.as_ref().map_or("", |function| &function.return_type);
            match mutant.genre.as_str() {
                "FnValue" if returned.starts_with("-> impl Iterator") => {
                    self.wrap(part, format!("crate::mutant::either({is}, {value}, {{ "), " })");
                }
                "FnValue" => self.wrap((part.0, part.0), format!("if {is} {{ return {value}; }} "), ""),
                "MatchArmGuard" if value == "true" => self.wrap(part, format!("({is} || ("), "))"),
                "MatchArmGuard" => self.wrap(part, format!("(!{is} && ("), "))"),
                _ => continue,
            }
            self.done.push(number);
        }
    }

    /// The changes of one genre at a place of the syntax.
    fn at(&self, place: LineColumn, genre: &str) -> Vec<(usize, String)> {
        let point = Point {
            line: place.line,
            column: place.column.saturating_add(1),
        };
        let here = self.by_place.get(&point).into_iter().flatten();
        let here = here.filter(|(_, mutant)| mutant.genre == genre);
        here.map(|(number, mutant)| (*number, mutant.replacement.clone()))
            .collect()
    }

    fn range(&self, span: Span) -> (usize, usize) {
        (self.lines.byte(span.start()), self.lines.byte(span.end()))
    }

    fn compared(&mut self, expression: &syn::ExprBinary, operator: &str, others: &[(usize, String)]) {
        let whole = self.range(expression.span());
        let mut table: String = others
            .iter()
            .map(|(number, other)| format!("({number}, \"{other}\"), "))
            .collect();
        table.push_str(&format!("(0, \"{operator}\")"));
        self.wrap(
            whole,
            "crate::mutant::compare(&(".to_owned(),
            &format!("), &[{table}])"),
        );
        let (start, end) = self.range(expression.op.span());
        self.replaced.push((start, end, "), &(".to_owned()));
        self.done.extend(others.iter().map(|(number, _)| number));
    }

    fn joined(&mut self, expression: &syn::ExprBinary, function: &str, number: usize) {
        if leaves(&expression.right) {
            return;
        }
        let whole = self.range(expression.span());
        self.wrap(whole, format!("crate::mutant::{function}({number}, "), ")");
        let (start, end) = self.range(expression.op.span());
        self.replaced.push((start, end, ", || ".to_owned()));
        self.done.push(number);
    }

    fn turned(&mut self, span: Span, number: usize) {
        let whole = self.range(span);
        self.wrap(whole, format!("(crate::mutant::is({number}) != ("), "))");
        self.done.push(number);
    }
}

impl<'ast> Visit<'ast> for Forms<'_> {
    fn visit_expr_binary(&mut self, expression: &'ast syn::ExprBinary) {
        let others = self.at(expression.op.span().start(), "BinaryOperator");
        let has_let = matches!(*expression.left, syn::Expr::Let(_)) || matches!(*expression.right, syn::Expr::Let(_));
        match (&expression.op, others.as_slice()) {
            (_, []) => {}
            _ if has_let => {}
            (syn::BinOp::Eq(_) | syn::BinOp::Ne(_), [(number, _)]) => self.turned(expression.span(), *number),
            (syn::BinOp::And(_), [(number, _)]) => self.joined(expression, "and", *number),
            (syn::BinOp::Or(_), [(number, _)]) => self.joined(expression, "or", *number),
            (syn::BinOp::Lt(_), others) => self.compared(expression, "<", others),
            (syn::BinOp::Le(_), others) => self.compared(expression, "<=", others),
            (syn::BinOp::Gt(_), others) => self.compared(expression, ">", others),
            (syn::BinOp::Ge(_), others) => self.compared(expression, ">=", others),
            _ => {}
        }
        syn::visit::visit_expr_binary(self, expression);
    }

    fn visit_expr_unary(&mut self, expression: &'ast syn::ExprUnary) {
        if let (syn::UnOp::Not(_), [(number, _)]) = (
            &expression.op,
            self.at(expression.op.span().start(), "UnaryOperator").as_slice(),
        ) {
            self.turned(expression.span(), *number);
        }
        syn::visit::visit_expr_unary(self, expression);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        for (number, _) in self.at(arm.span().start(), "MatchArm") {
            let is_on = format!("!crate::mutant::is({number})");
            match &arm.guard {
                Some((_, guard)) => {
                    let part = self.range(guard.span());
                    self.wrap(part, format!("({is_on} && ("), "))");
                }
                None => {
                    let (_, end) = self.range(arm.pat.span());
                    self.wrap((end, end), format!(" if {is_on}"), "");
                }
            }
            self.done.push(number);
        }
        syn::visit::visit_arm(self, arm);
    }

    fn visit_expr_struct(&mut self, expression: &'ast syn::ExprStruct) {
        for field in &expression.fields {
            let (Some(rest), syn::Member::Named(name)) = (&expression.rest, &field.member) else {
                continue;
            };
            for (number, _) in self.at(field.span().start(), "StructField") {
                let (start, end) = self.range(rest.span());
                let other = format!("({}).{name}", &self.lines.text[start..end]);
                let part = self.range(field.expr.span());
                let colon = if field.colon_token.is_none() {
                    format!("{name}: ")
                } else {
                    String::new()
                };
                let before = format!("{colon}if crate::mutant::is({number}) {{ {other} }} else {{ ");
                self.wrap(part, before, " }");
                self.done.push(number);
            }
        }
        syn::visit::visit_expr_struct(self, expression);
    }
}

/// Whether an expression may leave its function, which it cannot out of a closure.
fn leaves(expression: &syn::Expr) -> bool {
    #[derive(Default)]
    struct Leaves(bool);
    impl<'ast> Visit<'ast> for Leaves {
        fn visit_expr_try(&mut self, _: &'ast syn::ExprTry) {
            self.0 = true;
        }
        fn visit_expr_await(&mut self, _: &'ast syn::ExprAwait) {
            self.0 = true;
        }
        fn visit_expr_return(&mut self, _: &'ast syn::ExprReturn) {
            self.0 = true;
        }
    }
    let mut seen = Leaves::default();
    seen.visit_expr(expression);
    seen.0
}

/// From lines and columns to bytes.
struct Lines {
    text: String,
    starts: Vec<usize>,
}

impl Lines {
    fn of(text: &str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text: text.to_owned(),
            starts: std::iter::once(0).chain(ends).collect(),
        }
    }

    fn offset(&self, point: Point) -> usize {
        self.byte(LineColumn {
            line: point.line,
            column: point.column.saturating_sub(1),
        })
    }

    fn byte(&self, place: LineColumn) -> usize {
        let start = self
            .starts
            .get(place.line.saturating_sub(1))
            .copied()
            .unwrap_or_default();
        let line = self.text.get(start..).unwrap_or_default();
        let column = line.char_indices().nth(place.column).map_or(line.len(), |(at, _)| at);
        start + column
    }
}

/// What surrounds more stands further out; at one place what ends comes before what begins.
fn written(text: &str, mut wraps: Vec<Wrap>, replaced: Vec<(usize, usize, String)>) -> String {
    // What is only put there goes before what begins there.
    wraps.sort_by_key(|wrap| (wrap.start, wrap.end != wrap.start, std::cmp::Reverse(wrap.end)));
    let mut events: BTreeMap<usize, (Vec<&str>, Vec<&str>)> = BTreeMap::new();
    for wrap in &wraps {
        events.entry(wrap.start).or_default().1.push(&wrap.before);
        events.entry(wrap.end).or_default().0.insert(0, &wrap.after);
    }
    let mut out = String::with_capacity(text.len() * 2);
    let mut skip_to = 0;
    let replaced: BTreeMap<usize, (usize, &str)> = replaced
        .iter()
        .map(|(start, end, new)| (*start, (*end, new.as_str())))
        .collect();
    for (at, c) in text.char_indices() {
        if let Some((ends, begins)) = events.get(&at) {
            ends.iter().chain(begins).for_each(|text| out.push_str(text));
        }
        if let Some((end, new)) = replaced.get(&at) {
            out.push_str(new);
            skip_to = *end;
        }
        if at >= skip_to {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(genre: &str, replacement: &str, (line, from, to): (usize, usize, usize)) -> Mutant {
        let point = |column| Point { line, column };
        Mutant {
            genre: genre.to_owned(),
            replacement: replacement.to_owned(),
            span: Place {
                start: point(from),
                end: point(to),
            },
            function: None,
        }
    }

    #[test]
    fn changes_are_switched_where_they_stand() {
        let text = "fn f(a: u8, é: u8) -> bool { a < é && !g() }\n";
        let mutants = [
            mutant("FnValue", "true", (1, 30, 44)),
            mutant("BinaryOperator", "==", (1, 32, 33)),
            mutant("BinaryOperator", "||", (1, 36, 38)),
            mutant("UnaryOperator", "", (1, 39, 40)),
            mutant("BinaryOperator", "+", (1, 1, 2)),
        ];
        let numbered: Vec<_> = (1..).zip(&mutants).collect();
        let (written, left) = put_in(text, &numbered).unwrap();
        assert_eq!(left, [5]);
        assert_eq!(
            written,
            "fn f(a: u8, é: u8) -> bool { if crate::mutant::is(1) { return true; } crate::mutant::and(3, \
             crate::mutant::compare(&(a ), &( é), &[(2, \"==\"), (0, \"<\")]) , ||  (crate::mutant::is(4) != (!g()))) }\n"
        );
        assert!(syn::parse_file(&written).is_ok());
    }
}
