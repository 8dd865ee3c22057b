//! What the load generator and the bounds share: websocket frames, and the texts in them.

pub mod frame;
pub mod receive;
pub mod text;
