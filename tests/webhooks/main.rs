//! Section 15 of the contract: webhooks, to a real endpoint.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod crash;
mod failures;
mod receiver;
#[path = "../support/mod.rs"]
mod support;
mod types;
