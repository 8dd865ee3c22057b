//! How the server stops.

use std::time::Duration;

use socketioxide::SocketIo;
use tokio::time::Instant;

use crate::gateways::{app::App, cluster_peer, webhooks::Deliverer};

/// How long webhooks that are under way may take when the server stops; the next start sends them again.
const WEBHOOKS: Duration = Duration::from_secs(2);

/// How long the store may take to close even after the grace: a clean close makes the next start faster.
const CLOSING: Duration = Duration::from_secs(1);

/// The deadlines of a stop's parts, in percent of the grace. If one part hangs, the next still begins in
/// time.
pub(super) struct Stop {
    pub began: Instant,
    pub grace: Duration,
}

impl Stop {
    /// The emitters are handed over to another node.
    pub(super) const EMITTERS: u32 = 30;
    /// Events and requests that were taken are finished.
    const EVENTS: u32 = 50;
    /// The other nodes are told, and this node's users are removed from the cluster.
    const CLUSTER: u32 = 70;
    /// The clients are disconnected, and unsent data is written.
    const CLIENTS: u32 = 90;
    /// The store is closed.
    const STORE: u32 = 100;

    fn until(&self, percent: u32) -> Instant {
        self.began + self.grace * percent / 100
    }

    /// Runs one part of the stop, until its deadline at the latest.
    pub(super) async fn part(&self, name: &str, percent: u32, work: impl Future<Output = ()>) {
        self.part_until(name, self.until(percent), work).await;
    }

    async fn part_until(&self, name: &str, deadline: Instant, work: impl Future<Output = ()>) {
        if tokio::time::timeout_at(deadline, work).await.is_err() {
            tracing::warn!(part = name, "a step of the stop has timed out: continuing");
        }
    }
}

/// Finishes what was taken, tells the clients, and closes the store, each within its own part of the grace.
pub(super) async fn finish(
    app: &App,
    io: &SocketIo,
    deliverer: Option<Deliverer>,
    stopping: &Stop,
) {
    // Pages, replays and publishers stop waiting for slow readers.
    app.wire.hurry();
    // What was taken is finished first, so that its answers go out before the close.
    app.tasks.close();
    stopping.part("events and requests", Stop::EVENTS, app.tasks.wait()).await;
    if let Some(webhooks) = app.broker.webhooks() {
        webhooks.stop(app.registry.all_clients(), |client| app.sender_id(client));
    }
    stopping.part("ends", Stop::CLUSTER, tell_ends(app)).await;
    if let Some(cluster) = &app.cluster {
        cluster_peer::announce_departures(app);
        stopping.part("cluster", Stop::CLUSTER, cluster.close()).await;
    }
    stopping.part("connections", Stop::CLIENTS, io.close()).await;
    let unsent = stopping.part("unsent", Stop::CLIENTS, app.wire.closed());
    let store = async {
        if let Some(deliverer) = deliverer {
            let deadline = stopping.until(Stop::CLIENTS).min(Instant::now() + WEBHOOKS);
            stopping.part_until("webhooks", deadline, deliverer.stop()).await;
        }
        let Some(store) = &app.store else { return };
        let deadline = stopping.until(Stop::STORE).max(Instant::now() + CLOSING);
        stopping.part_until("store", deadline, store.close()).await;
    };
    tokio::join!(unsent, store);
}

/// Tells the application's backend that this node's clients go: a stop runs none of their own ends.
async fn tell_ends(app: &App) {
    let Some(handlers) = &app.handlers else { return };
    for client in app.registry.all_clients() {
        let rooms = client.rooms();
        handlers.disconnected(&app.tasks, &client, rooms, "server shutting down");
    }
    app.tasks.wait().await;
}
