//! Messages to a room, to a namespace and to one client.

use std::sync::Arc;

use futures_util::{FutureExt, TryFutureExt, future::ready};
use serde::Serialize;
use serde_json::value::RawValue;
use socketioxide::socket::Sid;

use crate::{
    broker::RoomMessage,
    broker::survey::Survey,
    commands::context::App,
    hub::{Client, Namespace, sender::Packet},
    protocol::{
        audience::Except,
        message_id::MessageId,
        names::RoomName,
        payload::{Object, ObjectBuilder, Payload},
        refusal::{Code, Refusal},
        timestamp::Timestamp,
    },
};

/// What a client sends to a room by `message` or `channels`.
#[derive(Debug)]
pub struct ToRoom {
    /// The room.
    pub room: RoomName,
    /// The object, which goes out as it is.
    pub payload: Payload,
    /// Its id.
    pub id: MessageId,
    /// The event as which it goes out.
    pub event: &'static str,
    /// Whether the sender gets its own copy.
    pub to_sender: bool,
}

/// What a client sends by `sendMessage`.
#[derive(Debug)]
pub struct Chat {
    /// The room.
    pub room: RoomName,
    /// The payload: `content` and whatever else.
    pub payload: Payload,
    /// Its id.
    pub id: MessageId,
}

/// Sends a client's object to a room: it has its place among the client's messages when this returns,
/// and is stored when what it returns is done.
///
/// # Errors
/// `forbidden`, `too_many_rooms`, `unavailable`: then nobody receives it.
pub fn send(app: &App, client: &Client, message: ToRoom) -> impl Publishing + use<> {
    let ToRoom { room, payload, id, event, to_sender } = message;
    let message = RoomMessage {
        namespace: client.namespace.clone(),
        room,
        event: event.into(),
        payload,
        id: id.text.clone(),
        timestamp: Timestamp::now(),
        except: Except::client((!to_sender).then_some(client.id)),
        sender: Some(app.sender(client)),
    };
    publish(app, client, message, id)
}

/// Sends a client's chat message to a room, as [`send`] does: the server says who sent it and when.
///
/// # Errors
/// As [`send`].
pub fn chat(app: &App, client: &Arc<Client>, message: Chat) -> impl Publishing + use<> {
    let Chat { room, payload, id } = message;
    let timestamp = Timestamp::now();
    let payload = match say(client, &payload, &id, timestamp) {
        Ok(payload) => payload,
        Err(refusal) => return ready(Err(refusal)).left_future(),
    };
    let message = RoomMessage {
        namespace: client.namespace.clone(),
        room,
        event: "newMessage".into(),
        payload,
        id: id.text.clone(),
        timestamp,
        except: Except::nobody(),
        sender: Some(app.sender(client)),
    };
    let published = publish(app, client, message, id);
    let client = client.clone();
    let tell = move |published: Published| {
        #[derive(Serialize)]
        struct MessageSent<'a> {
            id: &'a RawValue,
            timestamp: Timestamp,
            status: &'static str,
        }
        let sent = MessageSent { id: &published.id.json, timestamp, status: "sent" };
        client.outlet.send(&Packet::of("messageSent", &sent));
        published
    };
    published.map_ok(tell).right_future()
}

/// A message on its way.
pub trait Publishing: Future<Output = Result<Published, Refusal>> + Send {}

impl<F: Future<Output = Result<Published, Refusal>> + Send> Publishing for F {}

/// The chat message as it goes out.
fn say(
    client: &Client,
    payload: &Payload,
    id: &MessageId,
    timestamp: Timestamp,
) -> Result<Payload, Refusal> {
    let text = payload.json();
    let Some(object) = Object::parse(&text) else {
        return Err(Refusal::invalid("the payload must be an object"));
    };
    let Some(content) = object.get("content") else {
        return Err(Refusal::invalid("content must be present"));
    };
    let json = ObjectBuilder::default()
        // A payload's id goes out as it is, even where it cannot serve as one.
        .raw("id", object.get("id").unwrap_or(&id.json))
        .set("sender", &client.user())
        .set("clientId", client.id.as_str())
        .raw("content", content)
        .set("timestamp", &timestamp)
        .rest_of(&object)
        .build();
    payload.with_json(json)
}

/// Sends a client's object or text to every client of its namespace, itself included.
///
/// # Errors
/// `forbidden` where its token names the rooms that it may send to.
pub fn send_to_namespace(
    app: &App,
    client: &Client,
    payload: Payload,
    id: MessageId,
) -> Result<Published, Refusal> {
    client.permit_namespace()?;
    app.bus.signal_namespace(
        &client.namespace,
        &Packet::new("message", payload),
        &Except::nobody(),
    );
    Ok(Published { id, room: None, timestamp: Timestamp::now(), offset: None })
}

/// What a backend sends to a room by `POST /messages/broadcast`.
#[derive(Debug)]
pub struct Broadcast {
    /// The room's namespace.
    pub namespace: Arc<Namespace>,
    /// The room.
    pub room: RoomName,
    /// The body.
    pub payload: Payload,
    /// Its id.
    pub id: String,
    /// The client that is left out.
    pub except: Option<Sid>,
}

/// Sends a backend's message to a room as `message-reply`; returns its offset, with history.
///
/// # Errors
/// `too_many_rooms`, `unavailable`: then nobody receives it.
pub async fn broadcast(app: &App, message: Broadcast) -> Result<Option<u64>, Refusal> {
    app.bus.admit(&message.namespace, Some(&message.room)).await?;
    let message = RoomMessage {
        namespace: message.namespace,
        room: message.room,
        event: "message-reply".into(),
        payload: message.payload,
        id: message.id,
        timestamp: Timestamp::now(),
        except: Except::client(message.except),
        sender: None,
    };
    app.bus.publish(message).await
}

/// Sends a backend's packet to one client, in whichever namespace it is (or in this one), on whichever
/// node.
///
/// # Errors
/// `not_found` if it is not connected; `unavailable` where that is not known.
pub async fn to_client(
    app: &App,
    namespace: Option<&str>,
    client: &str,
    packet: &Packet,
) -> Result<(), Refusal> {
    let unknown = || Refusal::new(Code::NotFound, format!("Client {client} is not connected"));
    let id = client.parse().map_err(|_| unknown())?;
    if to_client_here(app, namespace, id, packet) {
        return Ok(());
    }
    let question = Survey::ToClient { client: id, namespace: namespace.map(Into::into) };
    let told = app.bus.survey::<bool>(&question, Some(packet)).await;
    if told.answers.contains(&true) { Ok(()) } else { Err(told.or_unreachable(unknown())) }
}

/// Sends a packet to one client of this node; returns whether it is here.
pub fn to_client_here(app: &App, namespace: Option<&str>, id: Sid, packet: &Packet) -> bool {
    let sent = app
        .registry
        .clients(id)
        .iter()
        .filter(|client| namespace.is_none_or(|path| *client.namespace.path == *path))
        .filter(|client| client.outlet.send(packet).is_taken())
        .count();
    app.metrics.delivered(sent);
    sent > 0
}

/// A message that was taken, as its sender is told of it.
#[derive(Debug)]
pub struct Published {
    id: MessageId,
    /// `None`: all of the namespace.
    room: Option<RoomName>,
    timestamp: Timestamp,
    offset: Option<u64>,
}

impl From<Published> for Payload {
    fn from(published: Published) -> Self {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Ack<'a> {
            success: bool,
            id: &'a RawValue,
            room_name: Option<&'a RoomName>,
            timestamp: Timestamp,
            #[serde(skip_serializing_if = "Option::is_none")]
            offset: Option<u64>,
        }
        let Published { id, room, timestamp, offset } = &published;
        Self::of(&Ack {
            success: true,
            id: &id.json,
            room_name: room.as_ref(),
            timestamp: *timestamp,
            offset: *offset,
        })
    }
}

impl From<Published> for Option<Payload> {
    fn from(published: Published) -> Self {
        Some(published.into())
    }
}

/// Publishes a client's message with this id, if it may send to the room.
fn publish(
    app: &App,
    client: &Client,
    message: RoomMessage,
    id: MessageId,
) -> impl Publishing + use<> {
    if let Err(refusal) = client.permit(&message.room) {
        return ready(Err(refusal)).left_future();
    }
    let (room, timestamp) = (Some(message.room.clone()), message.timestamp);
    let taken = move |offset| Published { id, room, timestamp, offset };
    app.bus.publish(message).map_ok(taken).right_future()
}

/// The simplest acknowledgement.
pub fn success() -> Payload {
    #[derive(Serialize)]
    struct Success {
        success: bool,
    }
    Payload::of(&Success { success: true })
}
