//! What a client's inbox has done: an event is read, handed to its feature, and answered.

use std::{future::Future, sync::Arc, time::Instant};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use serde_json::value::RawValue;
use socketioxide::socket::DisconnectReason;

use super::{
    connection::Connection,
    event::ClientEvent,
    guard::caught,
    inbox::Item,
    order::{self, Order},
    reply::reply,
};
use crate::{
    app::App,
    direct, history,
    limits::{MAX_DEPTH, is_deeper_than},
    messages,
    messages::success,
    metrics::Limit,
    payload::Payload,
    presence, receipts,
    refusal::{Code, Refusal},
    registry::Client,
    rooms, signals,
};

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

impl Connection {
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
}

/// The event's name and its first argument.
pub(super) fn split(text: &str) -> Result<(String, Option<&RawValue>), Refusal> {
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
