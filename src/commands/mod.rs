//! What clients and backends can ask for, whichever gateway they come by.

pub mod backend_event;
pub mod context;
pub mod history;
pub mod message;
pub mod presence;
pub mod private_message;
pub mod queries;
pub mod receipt;
pub mod room;
pub mod signal;
