//! What a client's inbox has done: an event is read, handed to its feature, and answered.

use std::{
    future::{Future, ready},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use serde_json::value::RawValue;

use super::{
    connection::Connection,
    event::{ClientEvent, Message, Request},
    guard::{caught, survived, trip},
    inbox::Item,
    order, reply,
};
use crate::{
    commands::{
        context::App,
        history,
        message::{self, success},
        presence, private_message, receipt, room, signal,
    },
    hub::Client,
    limits::{MAX_DEPTH, is_deeper_than},
    memory::Charge,
    protocol::{
        payload::{Payload, work},
        refusal::{Code, Refusal},
    },
    telemetry::metrics::Limit,
};

/// What was begun for a client.
pub struct Begun {
    /// The rest of it, its answer at the end.
    pub work: BoxFuture<'static, ()>,
    /// It is a message that has its place in its room: what follows need not wait for it.
    pub is_placed: bool,
}

/// An event, for its answer.
struct Asked {
    name: String,
    /// The number to acknowledge it with.
    ack: Option<i64>,
    /// When it came.
    came: Instant,
    /// Its bytes, which it holds until it is answered.
    _charge: Charge,
}

impl Connection {
    /// Begins what an item asks for: a message to a room is handed over during this call, all else
    /// waits for the work to be polled. Called by the inbox, for one item after the other.
    pub fn begin(self: &Arc<Self>, item: Item) -> Begun {
        let later = |work| Begun { work, is_placed: false };
        let Some(client) = self.client.get().cloned() else { return later(Box::pin(ready(()))) };
        let of = self.clone();
        let (text, attachments, ack, came, charge) = match item {
            Item::Event { text, attachments, ack, came, charge } => {
                (text, attachments, ack, came, charge)
            }
            Item::Order(order) => {
                return later(Box::pin(async move { order::obey(&of.app, &client, order).await }));
            }
            Item::Gone(reason) => {
                return later(Box::pin(async move { of.on_gone(&client, reason) }));
            }
        };
        let (name, event) = self.read(text.as_str(), attachments);
        let asked = Asked { name, ack, came, _charge: charge };
        let app = &self.app;
        match event {
            Ok(ClientEvent::Message(message)) => {
                let work = match message {
                    Message::ToRoom(message) => {
                        of.answer(asked, || message::send(app, &client, message))
                    }
                    Message::Chat(message) => {
                        of.answer(asked, || message::chat(app, &client, message))
                    }
                };
                Begun { work, is_placed: true }
            }
            Ok(ClientEvent::Join(join)) => {
                let app = app.clone();
                later(of.answer(asked, || async move {
                    let acknowledge = |answer| reply::acknowledge(&client, ack, answer);
                    room::join(&app, &client, join, acknowledge).await.map(|()| None::<Payload>)
                }))
            }
            Ok(ClientEvent::Request(request)) => {
                let app = app.clone();
                later(of.answer(asked, || async move { dispatch(&app, &client, request).await }))
            }
            Err(refusal) => later(of.answer(asked, || ready(Err::<Payload, _>(refusal)))),
        }
    }

    /// What `begin` begins, now, and its answer; `None`: it has acknowledged the event itself. Made of combinators, because an `async` block has room
    /// for what it is given twice.
    fn answer<F, T>(
        self: Arc<Self>,
        asked: Asked,
        begin: impl FnOnce() -> F,
    ) -> BoxFuture<'static, ()>
    where
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
        T: Into<Option<Payload>> + Send + 'static,
    {
        let work = caught(|| {
            if let Some(client) = self.client.get() {
                trip(client, &asked.name);
            }
            begin()
        });
        let work = match work {
            Some(work) => survived(work).left_future(),
            None => ready(None).right_future(),
        };
        Box::pin(work.map(move |done| self.answered(&asked, done)))
    }

    /// Tells the client what became of its event; `None`: it ended in a panic.
    fn answered<T: Into<Option<Payload>>>(&self, asked: &Asked, done: Option<Result<T, Refusal>>) {
        let Asked { name, ack, came, .. } = asked;
        let Some(client) = self.client.get() else { return };
        let done = done.unwrap_or_else(|| {
            self.app.metrics.panicked();
            tracing::error!(client = %client.id, event = name, "a panic ended this event");
            let message =
                "the server made a mistake with this event, which may have been done in part";
            Err(Refusal::new(Code::Unavailable, message))
        });
        match done {
            Ok(answer) => {
                if ack.is_some()
                    && let Some(answer) = answer.into()
                {
                    reply::acknowledge(client, *ack, answer);
                }
            }
            Err(refusal) => {
                if refusal.code == Code::RateLimited {
                    // The one rate that an event itself can be over.
                    self.app.metrics.limited(Limit::Authentication);
                }
                self.refuse(client, name, *ack, &refusal);
            }
        }
        self.app.metrics.answered(came.elapsed());
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
            if let Some(observer) = &self.app.observer {
                observer.received(client, &name, text);
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
}

/// The event's name and its first argument.
pub(super) fn split(text: &str) -> Result<(String, Option<&RawValue>), Refusal> {
    work::reads(text.len());
    let invalid = || Refusal::invalid("an event must be a JSON array that begins with its name");
    let array: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| invalid())?;
    let name = array.first().ok_or_else(invalid)?;
    let name = serde_json::from_str(name.get()).map_err(|_| invalid())?;
    Ok((name, array.get(1).copied()))
}

/// Most arms are boxed: the room that the largest takes need not be there for each.
async fn dispatch(app: &App, client: &Arc<Client>, request: Request) -> Result<Payload, Refusal> {
    match request {
        Request::Authenticate(claim) => Box::pin(presence::authenticate(app, client, claim)).await,
        Request::Custom(custom) => {
            let room = custom.room.clone();
            let ack = signal::custom(app, client, custom)?;
            app.bus.wait_drained(&client.namespace, room.as_ref()).await;
            Ok(ack)
        }
        Request::Heartbeat => Ok(success()),
        Request::Leave(leave) => room::leave(app, client, &leave),
        Request::Ping => {
            signal::pong(client);
            Ok(success())
        }
        Request::Presence(status) => {
            Box::pin(presence::update(app, client, status)).await.map(|()| success())
        }
        Request::Private(message) => Box::pin(private_message::send(app, client, message)).await,
        Request::Receipt(receipt) => Box::pin(receipt::read(app, client, receipt)).await,
        Request::Sync(request) => Box::pin(history::sync(app, client, request)).await,
        Request::ToNamespace(payload, id) => {
            let published = message::send_to_namespace(app, client, payload, id)?;
            app.bus.wait_drained(&client.namespace, None).await;
            Ok(published.into())
        }
        Request::Typing(room, is_typing) => {
            signal::typing(app, client, &room, is_typing).map(|()| success())
        }
    }
}
