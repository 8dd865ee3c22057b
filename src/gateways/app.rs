//! What gateways need: the commands' context, and what only gateways use.

use std::{
    ops::Deref,
    sync::{Arc, atomic::AtomicBool},
};

use tokio_util::task::TaskTracker;

use crate::{
    auth::ApiKeys, commands::context::Context, gateways::handlers::Handlers, memory::Memory,
    telemetry::event_log::EventLog, transport::Wire,
};

/// What gateways need, behind one `Arc`: cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts of an [`App`].
pub struct Parts {
    /// What commands need.
    pub context: Context,
    /// The API keys of backends.
    pub api_keys: ApiKeys,
    /// The memory budget, and what is charged to it.
    pub memory: Memory,
    /// The application's own backend, if there is one.
    pub handlers: Option<Handlers>,
    /// The event log.
    pub event_log: EventLog,
    /// What the clients' connections share.
    pub wire: Wire,
    /// Set when the server is about to stop but still serves: it is no longer ready.
    pub leaving: AtomicBool,
    /// Set when the server stops: what comes from then on is refused.
    pub draining: AtomicBool,
    /// Work for clients that must finish before the server stops.
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

/// Gives gateways direct access to what commands need.
impl Deref for Parts {
    type Target = Context;
    fn deref(&self) -> &Context {
        &self.context
    }
}
