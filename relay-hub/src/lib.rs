//! The provider's side of codex-relay: tenants, money, vendor accounts and the way out to vendors.

pub mod ca;
pub mod catalogue;
pub mod cli;
pub mod config;
pub mod directory;
pub mod enrolment;
mod files;
pub mod identity;
pub mod ids;
pub mod ledger;
pub mod money;
pub mod refusal;
pub mod seal;
pub mod store;
