//! The life of one connection to a namespace: handshake, events, end.
//!
//! The library sends its CONNECT answer before its connect handler runs. So everything is prepared in the
//! middleware, which runs earlier: no event is lost, and a client that disconnects at once leaves nothing
//! behind. The library's answer names the session; the transport takes it out, and the client gets one with its
//! own id, as the first of what is sent to it.

mod lifecycle;
mod prepare;

use std::{
    fmt,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, OnceLock, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use socketioxide::{
    adapter::LocalAdapter,
    handler::{ConnectHandler, MessageHandler, disconnect::DisconnectHandler},
    socket::{DisconnectReason, Socket},
};
use socketioxide_core::{Str, Value};
use tokio::sync::oneshot;

use super::{
    connects::Connects,
    handshake::Handshake,
    inbox::{Inbox, Item, size_of_event},
    refusals::{close_if_unjoined, record_refused_connect},
};
use crate::{
    commands::{connection_recovery::Claim, session},
    gateways::{app::App, handlers::First},
    hub::{Client, Namespace, Session, Stay},
    limits::ConnectionPermit,
    memory::Account,
    protocol::{
        client_id::ClientId,
        payload::event_name,
        refusal::{Code, Refusal},
    },
    telemetry::metrics::Limit,
    transport::MARK,
};

/// The library's handler for connections to one namespace.
#[derive(Clone)]
pub(super) struct NamespaceHandler {
    /// The state that all gateways share.
    pub app: App,
    /// The namespace.
    pub namespace: Arc<Namespace>,
}

/// One connection.
pub(super) struct Connection {
    /// Keeps its namespace open until all is done.
    _stay: Option<Stay>,
    pub(super) app: App,
    pub(super) client: OnceLock<Arc<Client>>,
    /// Taken by the client when the connection is established.
    prepared: OnceLock<Prepared>,
    /// What the application's backend wants to be done first.
    first: Mutex<Option<First>>,
    /// The session that the client has come back to.
    claim: Mutex<Option<Claim>>,
    inbox: Inbox,
    /// The account of the bytes held for the client.
    pub(super) account: Arc<Account>,
    /// The Engine.IO session that it belongs to.
    pub(super) connects: Arc<Connects>,
    /// Weak: the permit is released as soon as the library drops the connection.
    pub(super) permit: Weak<ConnectionPermit>,
}

struct Prepared {
    id: ClientId,
    namespace: Arc<Namespace>,
    name: Arc<str>,
    address: Option<IpAddr>,
    session: Session,
    /// The newest offset that it has of a session before.
    before: Option<u64>,
    /// The handshake, where the application's backend gets it with every event.
    handshake: Option<Arc<RawValue>>,
}

/// The shortest wait that a client is told: waits are in whole milliseconds.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// How long a client is told to wait when too many of its own events wait.
const BACKLOG_WAIT: Duration = Duration::from_secs(1);

type Refused = Box<dyn fmt::Display + Send>;

/// Names this crate's own handlers among the library's.
pub(super) enum Direct {}

impl ConnectHandler<LocalAdapter, Direct> for NamespaceHandler {
    fn call_middleware<'a>(
        &'a self,
        socket: Arc<Socket>,
        auth: &'a Option<Value>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Refused>> + Send + 'a>> {
        Box::pin(async move {
            let parts = socket.req_parts();
            let Some(connects) = parts.extensions.get::<Arc<Connects>>() else {
                let message = "this connection was not opened by the server's own transport";
                return Err(Box::new(Refusal::new(Code::Unavailable, message)) as Refused);
            };
            let handshake = Handshake::read(parts, auth.as_ref(), &self.app.config);
            let address = handshake.address;
            let permit = parts.extensions.get::<Arc<ConnectionPermit>>();
            let is_banned = permit.is_some_and(|permit| permit.is_banned());
            let taken = connects.take(&self.namespace.path);
            let prepared = match taken {
                _ if is_banned => {
                    let message =
                        "this connection exceeded its limits: slow down and open a new one";
                    Err((None, Refusal::new(Code::Forbidden, message)))
                }
                Err(refusal) => {
                    self.app.metrics.refused(refusal.code);
                    close_if_unjoined(&self.app, &socket);
                    connects.refuse(&self.namespace.path, &refusal);
                    return Err(Box::new(refusal) as Refused);
                }
                Ok(taken) => {
                    let id = taken.client_id(socket.id);
                    match self.prepare(id.clone(), handshake, &socket, auth.as_ref()).await {
                        Ok(prepared) => Ok((prepared, taken)),
                        Err(refusal) => Err((Some(id), refusal)),
                    }
                }
            };
            let ((prepared, first, claim), taken) = prepared.map_err(|(id, refusal)| {
                record_refused_connect(&self.app, &socket, id.as_ref(), &refusal, address);
                close_if_unjoined(&self.app, &socket);
                connects.refuse(&self.namespace.path, &refusal);
                Box::new(refusal) as Refused
            })?;
            // Whoever comes back is in the rooms that it was in.
            let first_rooms = match claim {
                Some(_) => None,
                None => session::first_rooms(&prepared.session),
            };
            let connection = Arc::new(Connection {
                _stay: self.app.registry.enter(&self.namespace.path),
                app: self.app.clone(),
                client: OnceLock::new(),
                prepared: OnceLock::from(prepared),
                first: Mutex::new(first),
                claim: Mutex::new(claim),
                inbox: Inbox::default(),
                account: Account::of(&socket.req_parts().extensions, &self.app.memory),
                connects: connects.clone(),
                permit: permit.map(Arc::downgrade).unwrap_or_default(),
            });
            taken.enter(&connection);
            // The first thing in its inbox, before anything that the client sends.
            if let Some(join) = first_rooms {
                let item = Item::Membership(join, oneshot::channel().0);
                let _unbounded = connection.inbox.push(&connection, item);
            }
            socket.extensions.insert(connection.clone());
            socket.on_fallback(EventHandler(connection.clone()));
            socket.on_disconnect(OnDisconnect(connection));
            Ok(())
        })
    }

    fn call(&self, socket: Arc<Socket>, _auth: Option<Value>) {
        if let Some(connection) = socket.extensions.get::<Arc<Connection>>() {
            connection.establish(&socket);
        }
    }
}

/// Takes every event, synchronously and so in order.
struct EventHandler(Arc<Connection>);

impl MessageHandler<LocalAdapter, Direct> for EventHandler {
    fn call(&self, _: Arc<Socket>, value: Value, ack: Option<i64>) {
        let Value::Str(text, attachments) = value else { return };
        let text = unmarked(text);
        let attachments: Arc<[Bytes]> = attachments.into_iter().flatten().collect();
        if self.0.app.draining.load(Ordering::Acquire) {
            let refusal = Refusal::new(Code::Unavailable, "the server is stopping: reconnect");
            return self.0.refuse_unread(text.as_str(), ack, &refusal);
        }
        if let Err(refusal) = self.0.app.memory.check_work() {
            self.0.app.metrics.limited(Limit::Memory);
            return self.0.refuse_unread(text.as_str(), ack, &refusal);
        }
        // A client that is not established yet cannot be told anything; the inbox bounds what it may send.
        if let Err(wait) = self.0.connects.throttle.take()
            && self.0.client.get().is_some()
        {
            let refusal = Refusal::new(Code::RateLimited, "too many events a second: slow down");
            return self.0.refuse_unread(
                text.as_str(),
                ack,
                &refusal.after(wait.max(SHORTEST_WAIT)),
            );
        }
        let bytes = size_of_event(text.as_str(), &attachments);
        let refused = match self.0.account.charge_incoming(bytes) {
            Some(charge) => {
                let item = Item::Event { text, attachments, ack, came: Instant::now(), charge };
                match self.0.inbox.push(&self.0, item) {
                    Err(Item::Event { text, .. }) => text,
                    _ => return,
                }
            }
            None => text,
        };
        let message = "too many events are waiting to be processed: wait for acknowledgements";
        let refusal = Refusal::new(Code::RateLimited, message).after(BACKLOG_WAIT);
        self.0.refuse_unread(refused.as_str(), ack, &refusal);
    }
}

/// The event's text as the client sent it.
fn unmarked(text: Str) -> Str {
    let begin = text.as_str().strip_prefix("[\"").and_then(|rest| rest.strip_prefix(MARK));
    match begin.and_then(|rest| rest.strip_prefix("\",")) {
        Some(rest) => format!("[{rest}").into(),
        None => text,
    }
}

/// The disconnect handler.
struct OnDisconnect(Arc<Connection>);

impl DisconnectHandler<LocalAdapter, Direct> for OnDisconnect {
    fn call_with_defer(
        &self,
        socket: Arc<Socket>,
        reason: DisconnectReason,
        defer: fn(Arc<Socket>),
    ) {
        self.0.connects.left(socket.ns());
        // The client may connect anew on the same connection: nothing of the old session may follow then.
        if let Some(client) = self.0.client.get() {
            client.sender.close();
            client.mark_gone();
        }
        // Never refused: only events are.
        let _queued = self.0.inbox.push(&self.0, Item::Gone(reason));
        defer(socket);
    }
}

impl Connection {
    /// The state that all gateways share.
    pub(super) fn app(&self) -> &App {
        &self.app
    }

    /// The client, once the connection is established.
    pub(super) fn client(&self) -> Option<&Arc<Client>> {
        self.client.get()
    }

    /// The events that are not processed yet.
    pub(super) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Refuses an event that was not taken into the inbox.
    fn refuse_unread(&self, text: &str, ack: Option<i64>, refusal: &Refusal) {
        let Some(client) = self.client.get() else { return };
        if refusal.code == Code::RateLimited {
            self.app.metrics.limited(Limit::Events);
        }
        let name = event_name(text).unwrap_or_default();
        self.refuse(client, &name, ack, refusal);
    }
}

#[cfg(test)]
#[cfg(feature = "shuttle")]
mod shuttle_tests;
