//! The provider's side of codex-relay: tenants, money, vendor accounts and the way out to vendors.

pub mod admission;
pub mod app;
pub mod ca;
pub mod catalogue;
pub mod cli;
pub mod config;
pub mod credit;
pub mod directory;
pub mod egress;
pub mod enrolment;
pub mod entrance;
pub mod exchange;
mod files;
pub mod idempotency;
pub mod identity;
pub mod ids;
pub mod ledger;
pub mod limit;
pub mod money;
pub mod price_list;
pub mod refusal;
pub mod routing;
pub mod seal;
pub mod store;
mod tokenizer;
pub mod vendor;
pub mod way;
