//! roomcast: a Socket.IO compatible room server.
//!
//! Two doors, one hallway: the Socket.IO door ([`socket`]) and the HTTP door ([`http`]) each turn
//! what comes in, once, into a valid typed command, call the same feature function, and map its
//! answer or [`refusal`] back. Features know neither door.
//!
//! ```text
//! Socket.IO frame ─► inbox (one client, in order) ─► event ─┐
//!                                                           ├─► feature ─► bus ─► log ─► tail ─► fan-out ─► outlets
//! HTTP request ────► extractors ──────────────────► command ┘      │
//!                      ack / 201  ◄─── answer or refusal ◄─────────┘
//! ```
//!
//! - [`server`] composes everything; [`app`] is what both doors hand to the features;
//! - features: [`rooms`], [`messages`], [`signals`], [`presence`], [`direct`], [`receipts`],
//!   [`history`], and for backends [`events`] and [`census`];
//! - [`bus`] takes what is sent to where it belongs, [`registry`] knows who is where, [`outlet`] is
//!   the one way out to a client, [`wire`] the byte streams behind it, [`payload`] is what travels,
//!   to the letter;
//! - [`cluster`] is what this node tells the others and knows of them, by Redis, and [`peers`] the
//!   door for what they tell and ask; [`fanout`] is the way from one to many on this node;
//! - [`store`] keeps the log and the queues: SQLite on one node, Redis for several;
//! - [`auth`] says who is who, [`config`] holds every setting, [`limits`] says how much is too much,
//!   [`memory`] what is held for whom, in bytes;
//! - [`metrics`] and [`event_log`] tell the operator;
//! - [`asyncapi`] describes every event, for machines and for TypeScript;
//! - [`admin`] is the third door, for operators: the official Admin UI;
//! - [`names`], [`message_id`], [`audience`] and [`refusal`] are the words that all share.
//!
//! Dependencies point one way: doors, features, bus and registry, outlet, names.

pub mod admin;
pub mod app;
pub mod asyncapi;
pub mod audience;
pub mod auth;
pub mod bus;
pub mod census;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod direct;
pub mod event_log;
pub mod events;
pub mod fanout;
pub mod history;
pub mod http;
pub mod limits;
pub mod memory;
pub mod message_id;
pub mod messages;
pub mod metrics;
pub mod names;
pub mod outlet;
pub mod payload;
pub mod peers;
pub mod presence;
pub mod receipts;
pub mod refusal;
pub mod registry;
pub mod rooms;
pub mod server;
pub mod signals;
pub mod socket;
pub mod store;
pub mod telemetry;
pub mod wire;

/// So that this crate's own tests can use what the black box tests share.
#[cfg(test)]
extern crate self as roomcast;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
