//! What hostile and broken clients send: after each of them the same process serves a normal client,
//! and nothing is left of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod checks;
mod connects;
mod frames;
mod ghosts;
mod http;
mod polling;
mod raw;
mod sessions;
mod slow_pollers;
mod timeouts;

use self::checks::{DEADLINE, assert_deserted, assert_serves};
