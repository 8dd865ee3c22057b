//! The server from the outside: its contract, topic by topic, over real connections.
//!
//! All topics are one binary, so that the server is linked once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod admin_ui;
mod authentication;
mod cluster;
mod config;
mod connecting;
mod control;
mod crash;
mod drain;
mod emitters;
mod event_log;
mod handlers;
mod history;
mod hostile;
mod http;
mod idempotency;
mod limits;
mod memory_limit;
mod messages;
mod metrics;
mod polling_memory;
mod protocol;
mod recovery;
mod refusals;
mod registry_model;
mod rooms;
mod sentinel;
mod store_failures;
mod store_upgrade;
#[path = "../support/mod.rs"]
mod support;
mod users;
mod webhooks;
mod wire;
