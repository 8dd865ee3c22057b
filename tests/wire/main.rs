//! The wire, from the outside: over real TCP, with a client that takes every frame apart.

#![allow(clippy::unwrap_used, reason = "as in tests: what is not as expected fails the test")]

mod close;
mod connect;
mod delivery;
mod flow;
mod heartbeat;
mod held;
mod peer;
mod slow;
#[path = "../support/mod.rs"]
mod support;
mod typical;
mod upgrade;
