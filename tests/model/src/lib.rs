//! The life of a hold as a model that a checker explores exhaustively: hubs that hold, serve, settle, die and haunt,
//! over one database, with bugs that can be planted one at a time. Shares no code with the ledger; what each step stands
//! for is said there, in `relay-hub/src/ledger`.

mod bug;
mod disk;
mod hub;
#[cfg(test)]
mod tests;
mod world;

pub use bug::Bug;
pub use disk::{Disk, Entry, Page};
pub use hub::{Hub, Op};
pub use world::{Step, Table, World};

/// A call's number.
pub type Call = usize;

/// How many calls there are. The two together cost more than there is credit.
pub const CALLS: usize = 2;
/// What the tenant has.
pub const CREDIT: i8 = 3;
/// What each call holds.
pub const HOLD: [i8; CALLS] = [2, 2];
/// What each call costs; the second more than its hold.
pub const COST: [i8; CALLS] = [1, 3];
