//! Puts the events of a reader in order, whatever the vendor sent. Knows no wire.

use super::{Cause, Event, Failure, Opened, Stop};

/// What a writer may rely on:
///
/// - `Begin` comes first, once; after `End` or `Fail` nothing comes.
/// - `Delta`, `Cite`, `Sign` and `Close` come while a part is open, and each part that opens is closed before the next
///   opens, before `Stop`, and before `Fail`; but for a call that broke off, which nobody is to take for a whole one.
/// - A call of a function that said no arguments says `{}`.
/// - Before `End` comes one `Stop`; it is `Calls` exactly when a tool was called and nothing else cut the answer short.
/// - No `Delta` is empty.
#[derive(Default)]
pub struct Sequence {
    has_begun: bool,
    open: Option<Open>,
    has_called: bool,
    has_stopped: bool,
    has_ended: bool,
}

#[derive(Clone, Copy)]
struct Open {
    is_call: bool,
    is_function: bool,
    is_whole: bool,
    has_text: bool,
}

impl Sequence {
    /// Takes one event as a reader made it and gives those that stand for it.
    pub fn push(&mut self, event: Event, out: &mut impl FnMut(Event)) {
        if self.has_ended {
            return;
        }
        if !self.has_begun && !matches!(event, Event::Usage(_)) {
            self.has_begun = true;
            out(Event::Begin);
        }
        match event {
            Event::Begin => {}
            Event::Open(opened) => self.open(opened, out),
            Event::Delta(text) => self.delta(text, out),
            Event::Cite(_) | Event::Sign(_) => {
                if self.open.is_some() {
                    out(event);
                }
            }
            Event::Close => self.close(out),
            Event::Usage(_) => {
                if self.has_begun {
                    out(event);
                }
            }
            Event::Stop(stop) => self.stop(stop, out),
            Event::End => {
                self.stop(Stop::Done, out);
                self.has_ended = true;
                out(Event::End);
            }
            Event::Fail(_) => {
                if self.open.is_some_and(|open| !open.is_call) {
                    self.close(out);
                }
                self.has_ended = true;
                out(event);
            }
        }
    }

    /// The vendor's body is over. Where the answer is not, it broke off.
    pub fn end(&mut self, out: &mut impl FnMut(Event)) {
        if self.has_stopped {
            self.push(Event::End, out);
        } else {
            self.push(Event::Fail(broke_off()), out);
        }
    }

    /// The answer is over: `End` or `Fail` was given.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// A reason to end was given, though the answer may not be over.
    #[must_use]
    pub const fn has_stopped(&self) -> bool {
        self.has_stopped
    }

    fn open(&mut self, opened: Opened, out: &mut impl FnMut(Event)) {
        if self.has_stopped {
            return;
        }
        self.close(out);
        let is_call = matches!(opened, Opened::Call { .. });
        self.has_called |= is_call;
        self.open = Some(Open {
            is_call,
            is_function: matches!(opened, Opened::Call { is_custom: false, .. }),
            is_whole: matches!(opened, Opened::Media(_) | Opened::Foreign(_)),
            has_text: false,
        });
        out(Event::Open(opened));
    }

    fn delta(&mut self, text: String, out: &mut impl FnMut(Event)) {
        let Some(open) = self.open.as_mut().filter(|open| !open.is_whole && !text.is_empty()) else {
            return;
        };
        open.has_text = true;
        out(Event::Delta(text));
    }

    fn close(&mut self, out: &mut impl FnMut(Event)) {
        if let Some(open) = self.open.take() {
            if open.is_function && !open.has_text {
                out(Event::Delta("{}".to_owned()));
            }
            out(Event::Close);
        }
    }

    fn stop(&mut self, stop: Stop, out: &mut impl FnMut(Event)) {
        if self.has_stopped {
            return;
        }
        self.close(out);
        self.has_stopped = true;
        out(Event::Stop(match (stop, self.has_called) {
            (Stop::Done | Stop::Calls, true) => Stop::Calls,
            (Stop::Calls, false) => Stop::Done,
            (stop, _) => stop,
        }));
    }
}

fn broke_off() -> Failure {
    Failure {
        cause: Cause::Vendor,
        message: "The upstream broke off before the answer was complete.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::turn::CallName;

    fn ordered(events: Vec<Event>) -> Vec<Event> {
        let mut sequence = Sequence::default();
        let mut out = Vec::new();
        for event in events {
            sequence.push(event, &mut |event| out.push(event));
        }
        sequence.end(&mut |event| out.push(event));
        out
    }

    fn call() -> Event {
        Event::Open(Opened::Call {
            id: "c".to_owned(),
            name: CallName::plain("f"),
            is_custom: false,
            opaque: None,
        })
    }

    #[test]
    fn a_careless_reader_is_put_in_order() {
        let text = || Event::Delta("a".to_owned());
        let given = vec![
            text(),
            Event::Open(Opened::Text),
            text(),
            call(),
            call(),
            text(),
            Event::Stop(Stop::Done),
            Event::Stop(Stop::Length),
            Event::Open(Opened::Text),
            Event::End,
            Event::End,
        ];
        let wanted = vec![
            Event::Begin,
            Event::Open(Opened::Text),
            text(),
            Event::Close,
            call(),
            Event::Delta("{}".to_owned()),
            Event::Close,
            call(),
            text(),
            Event::Close,
            Event::Stop(Stop::Calls),
            Event::End,
        ];
        assert_eq!(ordered(given), wanted);
    }

    #[test]
    fn an_answer_that_gives_no_reason_to_end_broke_off() {
        let out = ordered(vec![Event::Open(Opened::Text), Event::Delta("a".to_owned())]);
        assert_eq!(out.last(), Some(&Event::Fail(broke_off())));
        assert_eq!(out.get(out.len() - 2), Some(&Event::Close));
        assert_eq!(ordered(Vec::new()), [Event::Begin, Event::Fail(broke_off())]);
    }

    #[test]
    fn a_call_that_broke_off_is_never_told_as_a_whole_one() {
        let text = || Event::Delta("a".to_owned());
        let failed = vec![Event::Begin, call(), text(), Event::Fail(broke_off())];
        assert_eq!(ordered(vec![call(), text()]), failed);
        assert_eq!(ordered(vec![call()]), [Event::Begin, call(), Event::Fail(broke_off())]);
    }

    #[test]
    fn a_cut_answer_is_not_told_as_one_that_waits_for_tools() {
        let out = ordered(vec![call(), Event::Stop(Stop::Length)]);
        assert!(out.contains(&Event::Stop(Stop::Length)));
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Begin),
            Just(Event::Open(Opened::Text)),
            Just(Event::Open(Opened::Reasoning { is_redacted: false })),
            Just(call()),
            "[a-b]{0,2}".prop_map(Event::Delta),
            Just(Event::Cite(crate::turn::Citation::default())),
            Just(Event::Close),
            Just(Event::Usage(crate::Usage::default())),
            Just(Event::Stop(Stop::Length)),
            Just(Event::Stop(Stop::Done)),
            Just(Event::End),
            Just(Event::Fail(broke_off())),
        ]
    }

    proptest! {
        #[test]
        fn whatever_comes_a_writer_gets_an_answer_in_order(events in prop::collection::vec(any_event(), 0..30)) {
            let out = ordered(events);
            prop_assert_eq!(out.first(), Some(&Event::Begin));
            let (mut is_open, mut is_call, mut has_stopped) = (false, false, false);
            for (index, event) in out.iter().enumerate() {
                let is_last = index + 1 == out.len();
                match event {
                    Event::Begin => prop_assert_eq!(index, 0),
                    Event::Open(opened) => {
                        prop_assert!(!is_open && !has_stopped);
                        (is_open, is_call) = (true, matches!(opened, Opened::Call { .. }));
                    }
                    Event::Delta(text) => prop_assert!(is_open && !text.is_empty()),
                    Event::Cite(_) | Event::Sign(_) => prop_assert!(is_open),
                    Event::Close => {
                        prop_assert!(is_open);
                        is_open = false;
                    }
                    Event::Usage(_) => {}
                    Event::Stop(_) => {
                        prop_assert!(!is_open && !has_stopped);
                        has_stopped = true;
                    }
                    Event::End => prop_assert!(has_stopped && is_last),
                    Event::Fail(_) => prop_assert!((!is_open || is_call) && is_last),
                }
            }
            prop_assert!(matches!(out.last(), Some(Event::End | Event::Fail(_))));
        }
    }
}
