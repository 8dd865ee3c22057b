//! roomcast: a Socket.IO compatible room server.
pub mod names;
pub mod refusal;
