//! Engine.IO and Socket.IO on the wire, as Node's server speaks them. What is expected was seen at
//! `socket.io` 4.8 (`engine.io` 6.6, `ws` 8) with `allowEIO3`; where roomcast differs, the test says so.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod closes;
mod events;
mod handshake;
mod namespaces;
mod patterns;
mod polling;
#[path = "../hostile/raw.rs"]
mod raw;
#[path = "../support/mod.rs"]
mod support;

/// How long anything may take; a test that waits for longer has failed.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);
