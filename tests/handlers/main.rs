//! Section 14 of the contract: events of an application's own, answered by its backend.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod acks;
mod backend;
mod connects;
mod effects;
mod events;
mod failures;
mod moderation;
#[path = "../support/mod.rs"]
mod support;
