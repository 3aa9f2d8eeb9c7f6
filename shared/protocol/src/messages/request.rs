//! Requests of the Messages wire.

mod changes;
mod read;
mod write;

pub(crate) use self::read::read;
pub(crate) use self::write::write;

#[cfg(test)]
mod tests;
