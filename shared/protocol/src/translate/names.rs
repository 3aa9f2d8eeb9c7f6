//! Undoes in an answer what [`Flat`] did to the tools of its request. Knows no wire.

use crate::event::{Event, Opened};
use crate::turn::Flat;

/// Gives calls the names and the input of the client's own tools.
pub(super) struct Names {
    flat: Flat,
    /// What came of the input of a free-form tool: it is a text in JSON, which can be read when it is whole.
    wrapped: Option<String>,
}

impl Names {
    pub(super) const fn new(flat: Flat) -> Self {
        Self { flat, wrapped: None }
    }

    /// What comes of a call is kept until it is whole.
    pub(super) const fn gathers(&self) -> bool {
        self.wrapped.is_some()
    }

    /// Passes one event on.
    pub(super) fn pass(&mut self, event: Event, out: &mut impl FnMut(Event)) {
        match event {
            Event::Open(Opened::Call {
                id,
                name,
                is_custom,
                opaque,
            }) => {
                let was_custom = self.flat.is_custom(&name.name);
                self.wrapped = (was_custom && !is_custom).then(String::new);
                out(Event::Open(Opened::Call {
                    id,
                    name: match name.namespace {
                        Some(_) => name,
                        None => self.flat.original(&name.name),
                    },
                    is_custom: is_custom || was_custom,
                    opaque,
                }));
            }
            Event::Delta(text) => match &mut self.wrapped {
                Some(wrapped) => wrapped.push_str(&text),
                None => out(Event::Delta(text)),
            },
            Event::Close => {
                if let Some(wrapped) = self.wrapped.take() {
                    let text = Flat::unwrapped(&wrapped);
                    drop(wrapped);
                    if !text.is_empty() {
                        out(Event::Delta(text));
                    }
                }
                out(Event::Close);
            }
            Event::Begin
            | Event::Open(_)
            | Event::Cite(_)
            | Event::Sign(_)
            | Event::Usage(_)
            | Event::Stop(_)
            | Event::End
            | Event::Fail(_) => out(event),
        }
    }
}
