//! What commands need, of a server that keeps nothing.

use super::*;
use crate::{broker::fanout::Fanout, transport::Wire};

/// The context of one node of this configuration, on this wire.
pub fn context(config: Config, wire: &Wire, change_membership: ChangeMembership) -> Context {
    let config = Arc::new(config);
    let registry = Arc::new(Registry::new(&config.namespaces, 0));
    let metrics = Arc::new(Metrics::default());
    let here = Fanout::new(registry.clone(), metrics.clone(), wire.clone());
    Context::new(Shared {
        broker: Broker::new(here, None, None, wire.clone()),
        cluster: None,
        store: None,
        deliveries: Deliveries::default(),
        departures: Departures::default(),
        change_membership,
        revocations: RevokedTokens::default(),
        acknowledgements: Semaphore::new(1),
        verifier: None,
        observer: None,
        registry,
        limits: Limits::new(&config),
        metrics,
        node: String::new(),
        started_at: Timestamp::now(),
        config,
    })
}
