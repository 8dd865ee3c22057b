//! What both doors hand to the features.

use std::{
    ops::Deref,
    sync::{Arc, atomic::AtomicBool},
};

use tokio_util::task::TaskTracker;

use crate::{
    auth::{ApiKeys, Verifier},
    broker::{Bus, cluster::Cluster},
    commands::private_message::Deliveries,
    config::Config,
    hub::{Client, Registry, observer::Observer},
    limits::{Limits, Sender},
    memory::Memory,
    protocol::timestamp::Timestamp,
    store::Store,
    telemetry::{event_log::EventLog, metrics::Metrics},
    transport::Wire,
};

/// The application: a cheap clone of one shared whole.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts of the application.
pub struct Parts {
    /// The effective configuration.
    pub config: Arc<Config>,
    /// Who is where.
    pub registry: Arc<Registry>,
    /// The way from one to many.
    pub bus: Bus,
    /// The other nodes; `None` where there is but this one.
    pub cluster: Option<Cluster>,
    /// What is kept: the log and the offline users' queues; `None` where both are off.
    pub store: Option<Store>,
    /// Whose queues are being delivered.
    pub deliveries: Deliveries,
    /// Who checks tokens; `None` where authentication is off.
    pub verifier: Option<Verifier>,
    /// The keys of backends.
    pub api_keys: ApiKeys,
    /// How much one client, address or caller may ask.
    pub limits: Limits,
    /// What is held for clients, and how much more may be.
    pub memory: Memory,
    /// Is told what clients do; `None` where nobody is.
    pub observer: Option<Arc<dyn Observer>>,
    /// The figures.
    pub metrics: Arc<Metrics>,
    /// The event log.
    pub event_log: EventLog,
    /// What the clients' connections share.
    pub wire: Wire,
    /// This node's name among others.
    pub node: String,
    /// When this node started.
    pub started_at: Timestamp,
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

    /// Who is charged for what this client leaves in the store.
    pub fn sender(&self, client: &Client) -> Sender {
        // Without authentication anybody can say to be anybody.
        client.sender(self.verifier.is_some())
    }
}

impl Deref for App {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}
