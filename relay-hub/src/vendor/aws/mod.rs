//! What Amazon's services ask of their callers, whichever service it is: signed requests. Does no IO.

pub mod sigv4;
