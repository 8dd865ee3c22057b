//! roomcast: a Socket.IO compatible room server.
//!
//! Every gateway turns its input, once, into a valid typed command, calls the same function for it, and maps
//! the outcome or the [refusal](protocol::refusal) back. Commands know no gateway.
//!
//! ```text
//! Socket.IO frame ─► inbox (one client, in order) ─► command ─┐
//!                                                             ├─► broker ─► log ─► tail ─► fan-out ─► clients
//! HTTP request ────► extractors ───────────────────► command ─┘      │
//!                        ack / 201  ◄──────── outcome or refusal ◄───┘
//! ```
//!
//! Each module is a layer. It may use the layers below it in this list, and no others; `tests/layers.rs`
//! reads the imports and enforces that.
//!
//! - [`server`]: composition, start, stop, the command line;
//! - [`gateways`]: Socket.IO, HTTP, the Admin UI, the other nodes, and the description of the events;
//! - [`commands`]: what clients and backends can ask for;
//! - [`broker`]: delivers one message to many clients, through the log, and to the other nodes;
//! - [`hub`]: the clients, rooms and users of this node;
//! - [`store`]: the log and the queues, in SQLite on one node or in Redis for several;
//!   [`transport`]: the byte streams of all connections;
//! - [`limits`]: rates, connections, flooding; [`memory`]: the bytes held for each connection, and for all;
//!   [`telemetry`]: logs, metrics, the event log;
//! - [`auth`]: keys, tokens, permissions;
//! - [`config`]: every setting;
//! - [`protocol`]: the types that all layers share, without I/O.

// The tests share modules with those outside of the crate, which are public there.
#![cfg_attr(not(test), warn(unreachable_pub))]

pub mod auth;
pub mod broker;
pub mod commands;
pub mod config;
pub mod gateways;
pub mod hub;
pub mod limits;
pub mod memory;
pub mod protocol;
pub mod server;
pub mod store;
mod sync;
pub mod telemetry;
pub mod transport;

/// Lets this crate's own tests use the support module of the black box tests.
#[cfg(test)]
extern crate self as roomcast;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
