//! Engine.IO and Socket.IO on the wire, as Node's server speaks them. What is expected was seen at
//! `socket.io` 4.8 (`engine.io` 6.6, `ws` 8) with `allowEIO3`; where roomcast differs, the test says so.

mod closes;
mod events;
mod handshake;
mod namespaces;
mod patterns;
mod polling;
mod suite;
