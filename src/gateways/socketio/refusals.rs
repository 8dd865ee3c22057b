//! Refused connections, refused events, flooding.

use std::{
    borrow::Cow,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use socketioxide::socket::{DisconnectReason, Socket};

use super::{connection::Connection, connects::Connects};
use crate::{
    commands::{authenticate, refused},
    gateways::app::App,
    hub::Client,
    limits::Reaction,
    protocol::{
        client_id::ClientId,
        refusal::{Code, Refusal},
    },
    telemetry::{
        event_log::{Entry, Kind},
        metrics::Limit,
    },
    transport::Handle,
};

/// How long a client that floods has to read why it is disconnected.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Counts and logs a client whose CONNECT is refused.
pub(super) fn record_refused_connect(
    app: &App,
    socket: &Socket,
    id: Option<&ClientId>,
    refusal: &Refusal,
    address: Option<IpAddr>,
) {
    let Refusal { code, message, .. } = refusal;
    tracing::debug!(client = ?id, ?address, reason = ?message, "connection refused");
    app.metrics.refused(*code);
    match code {
        Code::Unauthorized => app.metrics.auth_failed(),
        Code::RateLimited => app.metrics.limited(Limit::Authentication),
        _ => {}
    }
    app.event_log.write(|| Entry {
        client_id: id.map(|id| id.to_string().into()),
        namespace: Some(socket.ns().into()),
        address,
        code: Some(*code),
        reason: Some(message.clone()),
        ..Entry::new(kind_of(*code, true))
    });
}

/// Ends a connection that asked for a namespace and is in none in time. The library ends only those that
/// never asked, and clients of Engine.IO 3 always have. One timer serves all refusals of a connection.
pub(super) fn close_if_unjoined(app: &App, socket: &Socket) {
    let extensions = &socket.req_parts().extensions;
    let (Some(connection), Some(connects)) =
        (extensions.get::<Handle>().cloned(), extensions.get::<Arc<Connects>>().cloned())
    else {
        return;
    };
    if !connection.watch() {
        return;
    }
    let wait = app.config.connect_timeout;
    tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        // A later refusal starts a new timer.
        connection.unwatch();
        if !connects.is_inside() {
            connection.break_off();
        }
    });
}

fn kind_of(code: Code, authenticates: bool) -> Kind {
    if authenticates && code == Code::Unauthorized { Kind::AuthFailure } else { Kind::Refusal }
}

/// Why a connection has ended, in the terms of Node's server.
pub(super) fn reason_text(reason: DisconnectReason) -> &'static str {
    match reason {
        DisconnectReason::TransportClose => "transport close",
        DisconnectReason::TransportError | DisconnectReason::MultipleHttpPollingError => {
            "transport error"
        }
        DisconnectReason::PacketParsingError => "parse error",
        DisconnectReason::HeartbeatTimeout => "ping timeout",
        DisconnectReason::ClientNSDisconnect => "client namespace disconnect",
        DisconnectReason::ServerNSDisconnect => "server namespace disconnect",
        DisconnectReason::ClosingServer => "server shutting down",
    }
}

impl Connection {
    /// Tells a client that its event was refused. A client that goes on regardless is disconnected.
    pub(super) fn refuse(
        &self,
        client: &Arc<Client>,
        name: &str,
        ack: Option<i64>,
        refusal: &Refusal,
    ) {
        let app = &self.app;
        app.metrics.refused(refusal.code);
        let mut count = None;
        if refusal.code == Code::RateLimited {
            match self.connects.throttle.refused(Instant::now()) {
                Reaction::Tell(refusals) => count = Some(refusals.into()).filter(|n| *n > 1),
                Reaction::Silence => return refused::acknowledge(client, ack, refusal),
                Reaction::Disconnect => return self.disconnect_flooder(client, name, ack),
                // It was told in another namespace of the connection.
                Reaction::CutOff => return client.sender.break_off(),
            }
        }
        tracing::debug!(client = %client.id, event = ?name, code = refusal.code.as_str(), reason = ?refusal.message, "refused");
        let kind = kind_of(refusal.code, name == authenticate::NAME);
        if kind == Kind::AuthFailure {
            app.metrics.auth_failed();
        }
        let code = Some(refusal.code);
        app.event_log.write(|| Entry { code, count, ..client.entry(kind).event(name) });
        refused::tell(client, name, ack, refusal);
    }

    /// Disconnects a client that floods, after telling it why.
    fn disconnect_flooder(&self, client: &Arc<Client>, name: &str, ack: Option<i64>) {
        const MESSAGE: &str = "too many events, also after refusals: disconnected";
        let address = client.address.map(tracing::field::display);
        tracing::info!(client = %client.id, address, "flooding: disconnecting");
        self.app.metrics.flooded();
        let code = Some(Code::RateLimited);
        self.app.event_log.write(|| Entry {
            code,
            reason: Some("flooding".into()),
            ..client.entry(Kind::Refusal).event(name)
        });
        client.note_end("flooding");
        if let Some(permit) = self.permit.upgrade() {
            permit.ban();
        }
        refused::tell(client, name, ack, &Refusal::new(Code::RateLimited, MESSAGE));
        // Waits, because the library closes the transport, unsent data included, when an event comes
        // after the end, and a client that floods sends some.
        let client = client.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LAST_WORDS).await;
            client.sender.disconnect();
        });
    }

    /// Why the connection has ended, in Socket.IO's terms where it has one; counts slow consumers.
    pub(super) fn end_of(&self, client: &Arc<Client>, reason: &'static str) -> Cow<'static, str> {
        if let Some(why) = client.sender.slow() {
            self.app.metrics.slow_consumer(why);
            let reason = Some(why.as_str().into());
            self.app.event_log.write(|| Entry { reason, ..client.entry(Kind::SlowConsumer) });
            return "slow consumer".into();
        }
        if let Some(reason) = client.ended() {
            return reason.clone();
        }
        reason.into()
    }
}
