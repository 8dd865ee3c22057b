//! The types that every layer shares: names, ids, positions, payloads, refusals. Nothing here does I/O.

pub mod audience;
pub mod client_id;
pub mod epoch;
pub mod error_chain;
pub mod event_names;
pub mod message_id;
pub mod names;
pub mod not_recovered;
pub mod pattern;
pub mod payload;
pub mod permissions;
pub mod position;
pub mod refusal;
pub mod timestamp;
pub mod webhook;
