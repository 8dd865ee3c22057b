//! The beginning and the end of a client, step by step: a step that panics ends only itself.

use std::sync::Arc;

use socketioxide::{
    ProtocolVersion,
    socket::{DisconnectReason, Socket},
};

use super::{
    super::{guard::step, refusals::reason_text},
    Connection,
};
use crate::{
    commands::{announcement, connection_recovery, presence, room, session},
    hub::{Client, sender::ClientSender},
    telemetry::event_log::{Entry, Kind},
};

/// Whether a connection ended so that its client may come back to its session.
fn is_loss(reason: DisconnectReason) -> bool {
    matches!(
        reason,
        DisconnectReason::TransportClose
            | DisconnectReason::TransportError
            | DisconnectReason::HeartbeatTimeout
            | DisconnectReason::MultipleHttpPollingError
    )
}

impl Connection {
    /// Establishes the client. The inbox opens last, so that the disconnection, too, is processed after this.
    pub(super) fn establish(self: &Arc<Self>, socket: &Arc<Socket>) {
        let Some(prepared) = self.prepared.get() else { return };
        let protocol = if socket.protocol() == ProtocolVersion::V4 { 3 } else { 4 };
        let app = &self.app;
        let claim = self.claim.lock().take();
        let journal = match &claim {
            Some(claim) => Some(claim.journal().clone()),
            None if protocol == 3 => None,
            None => connection_recovery::open(&app.context, &self.account, prepared.before),
        };
        let client = Arc::new(Client::new(
            prepared.id.clone(),
            prepared.namespace.clone(),
            prepared.name.clone(),
            protocol,
            prepared.address,
            ClientSender::new(
                socket,
                prepared.id.clone(),
                prepared.namespace.path.clone(),
                app.wire.clone(),
                app.observer.clone(),
                journal.clone(),
            ),
            prepared.session.clone(),
        ));
        if let Some(handshake) = &prepared.handshake {
            client.set_handshake(handshake.clone());
        }
        if self.client.set(client.clone()).is_err() {
            return;
        }
        app.metrics.connected();
        app.event_log.write(|| client.entry(Kind::Connect));
        // Whatever fails, the inbox must open: the disconnection comes through it.
        let step = |name, work: &dyn Fn()| step(&app.metrics, &client, name, work);
        match (&claim, &journal) {
            (Some(claim), _) => {
                if !claim.resume(&client) {
                    client.sender.break_off();
                }
                client.sender.greet();
                // It is not told of itself.
                step("announcing the beginning", &|| {
                    announcement::announce_connected(app, &client);
                });
                client.namespace.add(client.clone());
            }
            (None, journal) => {
                if let Some(journal) = journal {
                    journal.connect(&client);
                }
                client.sender.greet();
                // The welcome is the first event: only then do broadcasts reach the client.
                step("welcoming", &|| announcement::welcome(&client));
                client.namespace.add(client.clone());
                step("announcing the beginning", &|| {
                    announcement::announce_connected(app, &client);
                });
            }
        }
        if let Some(webhooks) = app.broker.webhooks() {
            step("telling the backend", &|| webhooks.connected(&client, app.sender_id(&client)));
        }
        if claim.is_none() {
            step("beginning presence", &|| session::begin(app, &client));
        }
        tracing::debug!(client = %client.id, namespace = %client.namespace.path, name = ?client.name, user = ?client.user(), transport = client.sender.transport(), "connected");
        if let Some(observer) = &app.observer {
            step("telling the observer", &|| observer.connected(&client));
        }
        self.inbox.open(self, self.first.lock().take(), claim);
    }

    /// Ends everything that the client was part of.
    pub(in crate::gateways::socketio) fn on_gone(
        &self,
        client: &Arc<Client>,
        reason: DisconnectReason,
    ) {
        let app = &self.app;
        let places = presence::shared_rooms(client);
        let rooms = client.rooms();
        let may_come_back =
            connection_recovery::leave(&app.context, &app.memory, client, is_loss(reason));
        client.namespace.remove(client);
        app.metrics.disconnected();
        if let Some(observer) = &app.observer {
            observer.disconnected(client, reason_text(reason));
        }
        let reason = self.end_of(client, reason_text(reason));
        tracing::debug!(client = %client.id, namespace = %client.namespace.path, %reason, "disconnected");
        app.event_log
            .write(|| Entry { reason: Some(reason.clone()), ..client.entry(Kind::Disconnect) });
        if let Some(handlers) = &app.handlers {
            handlers.disconnected(&app.tasks, client, rooms, &reason);
        }
        // Whatever fails, the rest must be done: nothing of a client may remain.
        let metrics = &app.metrics;
        let leaves = || room::leave_all(app, client, may_come_back);
        if !step(metrics, client, "leaving rooms", leaves) {
            connection_recovery::give_up(app, client);
            room::forget(app, client, &places);
        }
        step(metrics, client, "announcing the end", || {
            announcement::announce_disconnected(app, client);
        });
        if let Some(webhooks) = app.broker.webhooks() {
            step(metrics, client, "telling the backend", || {
                webhooks.disconnected(client, &reason, app.sender_id(client));
            });
        }
        if !step(metrics, client, "ending presence", || session::end(app, client, places)) {
            connection_recovery::give_up(app, client);
            session::forget(app, client);
        }
        if may_come_back {
            connection_recovery::settle(app, client);
        }
    }
}
