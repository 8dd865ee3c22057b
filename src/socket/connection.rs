//! The life of one connection to a namespace: handshake, events, end.
//!
//! The library sends the CONNECT packet before its connect handler runs, so everything is prepared
//! in the middleware that runs before: no event is lost, and a client that is gone again at once
//! leaves nothing behind.

use std::{
    fmt,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, OnceLock, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use serde_json::value::RawValue;
use socketioxide::{
    ProtocolVersion,
    adapter::LocalAdapter,
    handler::{ConnectHandler, MessageHandler, disconnect::DisconnectHandler},
    socket::{DisconnectReason, Socket},
};
use socketioxide_core::Value;

use super::{
    event::ClientEvent,
    guard::{caught, step},
    handshake::{Handshake, client_name},
    inbox::{Inbox, Item},
    order::{self, Order},
    refusals::{show_out, turned_away},
    reply::reply,
};
use crate::{
    app::App,
    direct,
    event_log::{Entry, Kind},
    history,
    limits::{Admission, MAX_DEPTH, Throttle, Who, is_deeper_than},
    messages,
    messages::success,
    metrics::Limit,
    outlet::{Outlet, Tap},
    payload::Payload,
    presence, receipts,
    refusal::{Code, Refusal},
    registry::{Client, Namespace, Session},
    rooms, signals,
};

/// The library's handler for everything that connects to one namespace.
#[derive(Clone)]
pub struct NamespaceHandler {
    /// What the features get.
    pub app: App,
    /// The namespace.
    pub namespace: Arc<Namespace>,
}

/// One connection.
pub struct Connection {
    pub(super) app: App,
    client: OnceLock<Arc<Client>>,
    /// Taken over by the client when the connection is established.
    prepared: OnceLock<Prepared>,
    inbox: Inbox,
    pub(super) throttle: Throttle,
    /// Weak: the place is free as soon as the library lets go of the connection.
    pub(super) admission: Weak<Admission>,
    /// Why the server has ended it, where it did.
    pub(super) ended: OnceLock<&'static str>,
}

struct Prepared {
    namespace: Arc<Namespace>,
    name: Arc<str>,
    address: Option<IpAddr>,
    session: Session,
}

/// The shortest wait that a client is told, since it counts in whole milliseconds.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// How long a client is told to wait when too many of its own events wait.
const BACKLOG_WAIT: Duration = Duration::from_secs(1);

type Refused = Box<dyn fmt::Display + Send>;

/// Names this crate's own handlers among the library's.
pub enum Direct {}

impl ConnectHandler<LocalAdapter, Direct> for NamespaceHandler {
    fn call_middleware<'a>(
        &'a self,
        socket: Arc<Socket>,
        auth: &'a Option<Value>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Refused>> + Send + 'a>> {
        Box::pin(async move {
            let parts = socket.req_parts();
            let handshake = Handshake::read(parts, auth.as_ref(), &self.app.config);
            let address = handshake.address;
            let admission = parts.extensions.get::<Arc<Admission>>();
            let prepared = if admission.is_some_and(|admission| admission.is_banned()) {
                let message = "this connection was thrown out: slow down, and connect anew";
                Err(Refusal::new(Code::Forbidden, message))
            } else {
                self.authenticate(handshake).await
            };
            let prepared = prepared.map_err(|refusal| {
                turned_away(&self.app, &socket, &refusal, address);
                show_out(&self.app, &socket);
                Box::new(refusal) as Refused
            })?;
            let connection = Arc::new(Connection {
                app: self.app.clone(),
                client: OnceLock::new(),
                prepared: OnceLock::from(prepared),
                inbox: Inbox::default(),
                throttle: Throttle::new(&self.app.config),
                admission: admission.map(Arc::downgrade).unwrap_or_default(),
                ended: OnceLock::new(),
            });
            socket.extensions.insert(connection.clone());
            socket.on_fallback(Inlet(connection.clone()));
            socket.on_disconnect(Farewell(connection));
            Ok(())
        })
    }

    fn call(&self, socket: Arc<Socket>, _auth: Option<Value>) {
        if let Some(connection) = socket.extensions.get::<Arc<Connection>>() {
            connection.establish(&socket);
        }
    }
}

impl NamespaceHandler {
    async fn authenticate(&self, handshake: Handshake) -> Result<Prepared, Refusal> {
        let mut token_name = None;
        let session = match (&self.app.verifier, &handshake.token) {
            (Some(verifier), Some(token)) => {
                let who = Who::of(handshake.address, None);
                let mut identity = self.app.limits.guesses.verify(verifier, token, who).await?;
                token_name = identity.client_name.take();
                Session::from(identity)
            }
            (Some(_), None) if self.app.config.auth_required() => {
                return Err(Refusal::new(
                    Code::Unauthorized,
                    "authentication required: give a token by auth.token, the query parameter token or an Authorization header",
                ));
            }
            _ => Session::anonymous(),
        };
        Ok(Prepared {
            namespace: self.namespace.clone(),
            name: client_name(token_name, handshake.client_name),
            address: handshake.address,
            session,
        })
    }
}

/// Takes every event, synchronously and so in order.
struct Inlet(Arc<Connection>);

impl MessageHandler<LocalAdapter, Direct> for Inlet {
    fn call(&self, _: Arc<Socket>, value: Value, ack: Option<i64>) {
        let Value::Str(text, attachments) = value else { return };
        let attachments: Arc<[Bytes]> = attachments.into_iter().flatten().collect();
        if self.0.app.draining.load(Ordering::Acquire) {
            let refusal = Refusal::new(Code::Unavailable, "the server is stopping: connect anew");
            return self.0.turn_away(text.as_str(), ack, refusal);
        }
        // Who is not established yet cannot be told anything; the inbox bounds what it may send.
        if let Err(wait) = self.0.throttle.take()
            && self.0.client.get().is_some()
        {
            let refusal = Refusal::new(Code::RateLimited, "too many events a second: slow down");
            let refusal = Refusal { retry_after: Some(wait.max(SHORTEST_WAIT)), ..refusal };
            return self.0.turn_away(text.as_str(), ack, refusal);
        }
        let item = Item::Event { text, attachments, ack, came: Instant::now() };
        if let Err(Item::Event { text, ack, .. }) = self.0.inbox.push(&self.0, item) {
            let message = "too many events are waiting to be processed: wait for acknowledgements";
            let refusal = Refusal::new(Code::RateLimited, message);
            let refusal = Refusal { retry_after: Some(BACKLOG_WAIT), ..refusal };
            self.0.turn_away(text.as_str(), ack, refusal);
        }
    }
}

/// Takes the end of the connection.
struct Farewell(Arc<Connection>);

impl DisconnectHandler<LocalAdapter, Direct> for Farewell {
    fn call_with_defer(
        &self,
        socket: Arc<Socket>,
        reason: DisconnectReason,
        defer: fn(Arc<Socket>),
    ) {
        // The client may connect anew on the same connection: nothing of before may follow then.
        if let Some(client) = self.0.client.get() {
            client.outlet.close();
        }
        // Never refused: only events are.
        let _queued = self.0.inbox.push(&self.0, Item::Gone(reason));
        defer(socket);
    }
}

impl Connection {
    /// What the features get.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// The client, once the connection is established.
    pub fn client(&self) -> Option<&Arc<Client>> {
        self.client.get()
    }

    /// What has come and is not processed yet.
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Enters the client. The inbox opens last, so that its end, too, is processed after this.
    fn establish(self: &Arc<Self>, socket: &Arc<Socket>) {
        let Some(prepared) = self.prepared.get() else { return };
        let protocol = if socket.protocol() == ProtocolVersion::V4 { 3 } else { 4 };
        let client = Arc::new(Client::new(
            socket.id,
            prepared.namespace.clone(),
            prepared.name.clone(),
            protocol,
            prepared.address,
            Outlet::new(
                socket,
                prepared.namespace.path.clone(),
                self.app.wire.clone(),
                self.app.admin.clone().map(|admin| Arc::new(admin) as Tap),
            ),
            prepared.session.clone(),
        ));
        if self.client.set(client.clone()).is_err() {
            return;
        }
        let app = &self.app;
        app.metrics.connected();
        app.event_log.write(|| Entry::of(Kind::Connect, &client));
        // Whatever fails, the inbox must open: the end of the connection comes through it.
        let step = |name, work: &dyn Fn()| step(&app.metrics, &client, name, work);
        // The welcome is the first that it hears: before it is among those that broadcasts reach.
        step("welcoming", &|| signals::welcome(&client));
        client.namespace.add(client.clone());
        step("announcing the beginning", &|| signals::announce_connected(app, &client));
        step("beginning presence", &|| presence::begin(app, &client));
        tracing::debug!(client = %client.id, namespace = %client.namespace.path, name = ?client.name, user = ?client.user(), transport = client.outlet.transport(), "connected");
        if let Some(admin) = &app.admin {
            step("telling operators", &|| admin.connected(&client));
        }
        self.inbox.open(self);
    }

    /// Takes an item apart; called by the inbox for one at a time.
    pub fn prepare(&self, item: Item) -> Task {
        match item {
            Item::Event { text, attachments, ack, came } => {
                let (name, event) = self.read(text.as_str(), attachments);
                Task::Event { name, event, ack, came }
            }
            Item::Order(order) => Task::Order(order),
            Item::Gone(reason) => Task::Gone(reason),
        }
    }

    /// Begins what may be begun while what came before is not done: a message to a room is handed to the
    /// log.
    pub fn begin(self: &Arc<Self>, task: Task) -> Begun {
        let (Some(client), Some(_)) = (self.client.get(), self.app.bus.log()) else {
            return Begun::Not(task);
        };
        let (name, stored, ack, came) = match task {
            Task::Event { name, event: Ok(ClientEvent::ToRoom(message)), ack, came } => {
                (name, messages::send(&self.app, client, message).left_future(), ack, came)
            }
            Task::Event { name, event: Ok(ClientEvent::Chat(message)), ack, came } => {
                (name, messages::chat(&self.app, client, message).right_future(), ack, came)
            }
            task => return Begun::Not(task),
        };
        let (of, client) = (self.clone(), client.clone());
        Begun::Stored(Box::pin(async move {
            of.answer(&client, &name, ack, stored).await;
            of.app.metrics.answered(came.elapsed());
        }))
    }

    /// Does what is to be done.
    pub async fn perform(&self, task: Task) {
        let Some(client) = self.client.get() else { return };
        match task {
            Task::Event { name, event, ack, came } => {
                let work = async { dispatch(&self.app, client, event?).await };
                self.answer(client, &name, ack, work).await;
                self.app.metrics.answered(came.elapsed());
            }
            Task::Order(order) => Box::pin(order::obey(&self.app, client, order)).await,
            Task::Gone(reason) => self.on_gone(client, reason),
        }
    }

    /// The name of an event, and what it asks for.
    fn read(
        &self,
        text: &str,
        attachments: Arc<[Bytes]>,
    ) -> (String, Result<ClientEvent, Refusal>) {
        let (name, argument) = match split(text) {
            Ok(parts) => parts,
            Err(refusal) => return (String::new(), Err(refusal)),
        };
        self.app.metrics.received(&name);
        if let Some(client) = self.client.get() {
            client.touch();
            tracing::debug!(client = %client.id, event = ?name, bytes = text.len(), "event");
            if let Some(admin) = &self.app.admin {
                admin.received(client, &name, text);
            }
        }
        if argument.is_some_and(|argument| is_deeper_than(MAX_DEPTH, argument.get())) {
            let message = format!(
                "the payload has more than {MAX_DEPTH} arrays and objects inside one another"
            );
            return (name, Err(Refusal::invalid(message)));
        }
        let event = ClientEvent::parse(&name, argument, attachments);
        (name, event)
    }

    /// Tells the client what becomes of its event.
    async fn answer(
        &self,
        client: &Arc<Client>,
        name: &str,
        ack: Option<i64>,
        work: impl Future<Output = Result<Payload, Refusal>>,
    ) {
        match caught(&self.app.metrics, client, name, work).await {
            Ok(answer) => reply(client, name, ack, Ok(answer)),
            Err(refusal) => {
                if refusal.code == Code::RateLimited {
                    // The one rate that an event itself can be over.
                    self.app.metrics.limited(Limit::Authentication);
                }
                self.refuse(client, name, ack, refusal);
            }
        }
    }

    fn on_gone(&self, client: &Arc<Client>, reason: DisconnectReason) {
        let app = &self.app;
        let places = presence::shared_rooms(client);
        client.namespace.remove(client);
        app.metrics.disconnected();
        if let Some(admin) = &app.admin {
            admin.disconnected(client, reason);
        }
        let reason = self.end_of(client, reason);
        tracing::debug!(client = %client.id, namespace = %client.namespace.path, %reason, "disconnected");
        app.event_log
            .write(|| Entry { reason: Some(reason.into()), ..Entry::of(Kind::Disconnect, client) });
        // Whatever fails, the rest must be done: nothing of a client may stay.
        let metrics = &app.metrics;
        if !step(metrics, client, "leaving rooms", || rooms::leave_all(app, client)) {
            rooms::forget(client, &places);
        }
        step(metrics, client, "announcing the end", || signals::announce_disconnected(app, client));
        if !step(metrics, client, "ending presence", || presence::end(app, client, places)) {
            presence::forget(app, client);
        }
    }

    /// Refuses an event that was not taken into the inbox.
    fn turn_away(&self, text: &str, ack: Option<i64>, refusal: Refusal) {
        let Some(client) = self.client.get() else { return };
        if refusal.code == Code::RateLimited {
            self.app.metrics.limited(Limit::Events);
        }
        let name = split(text).map(|(name, _)| name).unwrap_or_default();
        self.refuse(client, &name, ack, refusal);
    }
}

/// What is to be done for a client.
pub enum Task {
    /// What one of its events asks for.
    Event {
        /// The event's name.
        name: String,
        /// What it asks for, or why that is refused.
        event: Result<ClientEvent, Refusal>,
        /// The number to acknowledge it with.
        ack: Option<i64>,
        /// When it came.
        came: Instant,
    },
    /// Somebody else's order.
    Order(Order),
    /// The end of the connection.
    Gone(DisconnectReason),
}

/// A task that has been looked at.
#[allow(clippy::large_enum_variant, reason = "neither is kept")]
pub enum Begun {
    /// It is on its way to the log; this answers it once it is stored.
    Stored(BoxFuture<'static, ()>),
    /// It must wait for those before it.
    Not(Task),
}

/// The event's name and its first argument.
fn split(text: &str) -> Result<(String, Option<&RawValue>), Refusal> {
    let invalid = || Refusal::invalid("an event must be a JSON array that begins with its name");
    let array: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| invalid())?;
    let name = array.first().ok_or_else(invalid)?;
    let name = serde_json::from_str(name.get()).map_err(|_| invalid())?;
    Ok((name, array.get(1).copied()))
}

/// What is not a message is boxed: the room that it takes need not be there for every message.
async fn dispatch(app: &App, client: &Arc<Client>, event: ClientEvent) -> Result<Payload, Refusal> {
    match event {
        ClientEvent::Authenticate(claim) => {
            Box::pin(presence::authenticate(app, client, claim)).await
        }
        ClientEvent::Chat(message) => messages::chat(app, client, message).await,
        ClientEvent::Custom(custom) => {
            let room = custom.room.clone();
            let ack = signals::custom(app, client, custom)?;
            app.bus.relieved(&client.namespace, room.as_ref()).await;
            Ok(ack)
        }
        ClientEvent::Heartbeat => Ok(success()),
        ClientEvent::Join(join) => Box::pin(rooms::join(app, client, join)).await,
        ClientEvent::Leave(leave) => rooms::leave(app, client, &leave),
        ClientEvent::Ping => {
            signals::pong(client);
            Ok(success())
        }
        ClientEvent::Presence(status) => {
            Box::pin(presence::update(app, client, status)).await.map(|()| success())
        }
        ClientEvent::Private(message) => Box::pin(direct::send(app, client, message)).await,
        ClientEvent::Receipt(receipt) => Box::pin(receipts::read(app, client, receipt)).await,
        ClientEvent::Sync(request) => Box::pin(history::sync(app, client, request)).await,
        ClientEvent::ToNamespace(payload, id) => {
            let ack = messages::send_to_namespace(app, client, payload, &id)?;
            app.bus.relieved(&client.namespace, None).await;
            Ok(ack)
        }
        ClientEvent::ToRoom(message) => messages::send(app, client, message).await,
        ClientEvent::Typing(room, is_typing) => {
            signals::typing(app, client, &room, is_typing).map(|()| success())
        }
    }
}
