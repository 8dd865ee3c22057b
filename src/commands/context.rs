//! What commands need.

use std::{ops::Deref, sync::Arc};

use tokio::sync::Semaphore;

use crate::{
    auth::Verifier,
    broker::{Broker, cluster::Cluster},
    commands::{
        deliveries::Deliveries, departures::Departures, membership_command::ChangeMembership,
        revoked_tokens::RevokedTokens,
    },
    config::Config,
    hub::{Client, Registry, observer::Observer},
    limits::{Limits, SenderId},
    protocol::{refusal::Refusal, timestamp::Timestamp},
    store::Store,
    telemetry::metrics::Metrics,
};

/// What commands need, behind one `Arc`: cheap to clone.
#[derive(Clone)]
pub struct Context(Arc<Shared>);

/// The parts of a [`Context`].
pub struct Shared {
    /// The effective configuration.
    pub config: Arc<Config>,
    /// The clients, rooms and users of this node.
    pub registry: Arc<Registry>,
    /// Delivers messages and signals.
    pub broker: Broker,
    /// The other nodes; `None` for a single node.
    pub cluster: Option<Cluster>,
    /// The log, the offline users' queues, the revocations and the idempotency keys; `None` where there are none of them.
    pub store: Option<Store>,
    /// The offline queues that are being delivered.
    pub deliveries: Deliveries,
    /// The sessions that move from node to node.
    pub departures: Departures,
    /// Verifies tokens; `None` where authentication is off.
    pub verifier: Option<Verifier>,
    /// The revoked tokens.
    pub revocations: RevokedTokens,
    /// How many more events may wait for the acknowledgements of clients.
    pub acknowledgements: Semaphore,
    /// The limits on clients, addresses and callers.
    pub limits: Limits,
    /// Puts a change of memberships into a client's inbox.
    pub change_membership: ChangeMembership,
    /// Is notified of what clients do; `None` without an observer.
    pub observer: Option<Arc<dyn Observer>>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// This node's name in the cluster.
    pub node: String,
    /// When this node started.
    pub started_at: Timestamp,
}

impl Context {
    /// A context of these parts.
    pub fn new(parts: Shared) -> Self {
        Self(Arc::new(parts))
    }

    /// Checks that a client may send to its whole namespace.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn permit_namespace(&self, client: &Client) -> Result<(), Refusal> {
        if !self.config.namespace_messages {
            return Err(Refusal::forbidden(
                "sending to the whole namespace is turned off (NAMESPACE_MESSAGES): name a room",
            ));
        }
        client.permit_namespace()
    }

    /// The id that this client's data in the store is charged to.
    pub fn sender_id(&self, client: &Client) -> SenderId {
        // Without authentication a user name proves nothing.
        client.sender_id(self.config.users_prove())
    }
}

impl Deref for Context {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

#[cfg(test)]
#[cfg(feature = "shuttle")]
pub(crate) mod shuttle_tests;
