//! What commands need.

use std::{ops::Deref, sync::Arc};

use crate::{
    auth::Verifier,
    broker::{Broker, cluster::Cluster},
    commands::deliveries::Deliveries,
    config::Config,
    hub::{Client, Registry, observer::Observer},
    limits::{Limits, SenderId},
    protocol::timestamp::Timestamp,
    store::Store,
    telemetry::metrics::Metrics,
};

/// What commands need: a cheap clone of one shared whole.
#[derive(Clone)]
pub struct Context(Arc<Shared>);

/// The parts of a [`Context`].
pub struct Shared {
    /// The effective configuration.
    pub config: Arc<Config>,
    /// Who is where.
    pub registry: Arc<Registry>,
    /// The way from one to many.
    pub broker: Broker,
    /// The other nodes; `None` where there is but this one.
    pub cluster: Option<Cluster>,
    /// What is kept: the log and the offline users' queues; `None` where both are off.
    pub store: Option<Store>,
    /// Whose queues are being delivered.
    pub deliveries: Deliveries,
    /// Who checks tokens; `None` where authentication is off.
    pub verifier: Option<Verifier>,
    /// How much one client, address or caller may ask.
    pub limits: Limits,
    /// Is told what clients do; `None` where nobody is.
    pub observer: Option<Arc<dyn Observer>>,
    /// The figures.
    pub metrics: Arc<Metrics>,
    /// This node's name among others.
    pub node: String,
    /// When this node started.
    pub started_at: Timestamp,
}

impl Context {
    /// A context of these parts.
    pub fn new(parts: Shared) -> Self {
        Self(Arc::new(parts))
    }

    /// Who is charged for what this client leaves in the store.
    pub fn sender_id(&self, client: &Client) -> SenderId {
        // Without authentication anybody can say to be anybody.
        client.sender_id(self.verifier.is_some())
    }
}

impl Deref for Context {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}
