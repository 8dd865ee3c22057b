//! The Socket.IO door: it turns what clients send, once, into typed events, calls the features, and
//! maps their answers back to acks and `error` events.

mod connection;
mod eio3;
mod event;
mod guard;
mod handshake;
mod inbox;
mod layer;
mod names;
mod refusals;
mod reply;

pub use self::{
    eio3::{SocketLayer, SocketService},
    layer::{build, mount},
    names::{client as events, is_protocol_event, is_state_event},
};
