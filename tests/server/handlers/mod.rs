//! Section 14 of the contract: events of an application's own, answered by its backend.

mod acks;
pub(crate) mod backend;
mod connects;
mod effects;
mod events;
mod failures;
mod moderation;
