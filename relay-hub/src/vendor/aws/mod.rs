//! What Amazon's services ask of their callers, whichever service it is: signed requests, answers in frames. Does no IO.

pub mod event_stream;
pub mod sigv4;
