//! The ways into the server. Each turns its input, once, into a valid command, calls the same function for
//! it, and maps the outcome or refusal back.

pub mod admin_ui;
pub mod app;
pub mod asyncapi;
mod backend;
pub mod cluster_peer;
pub mod emitters;
mod event_fields;
mod fields;
pub mod handlers;
pub mod http;
pub mod http_error;
pub mod socketio;
pub mod webhooks;
