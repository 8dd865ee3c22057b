//! What gateways need: the commands' context, and what they alone use.

use std::{
    ops::Deref,
    sync::{Arc, atomic::AtomicBool},
};

use tokio_util::task::TaskTracker;

use crate::{
    auth::ApiKeys, commands::context::Context, memory::Memory, telemetry::event_log::EventLog,
    transport::Wire,
};

/// What gateways need: a cheap clone of one shared whole.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts of an [`App`].
pub struct Parts {
    /// What commands need.
    pub context: Context,
    /// The keys of backends.
    pub api_keys: ApiKeys,
    /// What is held for clients, and how much more may be.
    pub memory: Memory,
    /// The event log.
    pub event_log: EventLog,
    /// What the clients' connections share.
    pub wire: Wire,
    /// Raised when the server is about to stop, while it still serves: it is no longer ready.
    pub leaving: AtomicBool,
    /// Raised when the server stops: what comes from then on is refused.
    pub draining: AtomicBool,
    /// What is being done for clients and must be finished before the end.
    pub tasks: TaskTracker,
}

impl App {
    /// The application made of these parts.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for App {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// So that what commands need is at hand where a gateway calls one.
impl Deref for Parts {
    type Target = Context;
    fn deref(&self) -> &Context {
        &self.context
    }
}
