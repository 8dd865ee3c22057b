//! Messages to a room, to a namespace and to one client.

use std::sync::Arc;

use serde::Serialize;
use socketioxide::socket::Sid;

use crate::{
    app::App,
    audience::Except,
    bus::RoomMessage,
    clock::Timestamp,
    message_id::MessageId,
    names::RoomName,
    outlet::Packet,
    payload::{Object, ObjectBuilder, Payload},
    peers::{self, Question},
    refusal::{Code, Refusal},
    registry::{Client, Namespace},
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

/// Sends a client's object to a room.
///
/// # Errors
/// `forbidden`, `too_many_rooms`, `unavailable`: then nobody receives it.
pub async fn send(app: &App, client: &Client, message: ToRoom) -> Result<Payload, Refusal> {
    let except = Except::client((!message.to_sender).then_some(client.id));
    let published =
        publish(app, client, message.room, message.event, message.payload, &message.id, except)
            .await?;
    Ok(published.acknowledge(&message.id))
}

/// Sends a client's chat message to a room: the server says who sent it and when.
///
/// # Errors
/// As [`send`].
pub async fn chat(app: &App, client: &Client, message: Chat) -> Result<Payload, Refusal> {
    let Some(object) = Object::parse(message.payload.json()) else {
        return Err(Refusal::invalid("the payload must be an object"));
    };
    let mut built = ObjectBuilder::default();
    // A payload's id goes out as it is, even where it cannot serve as one.
    built = match object.get("id") {
        Some(id) => built.raw("id", id),
        None => built.raw("id", &message.id.json),
    };
    built = built.set("sender", &client.user()).set("clientId", client.id.as_str());
    built = match object.get("content") {
        Some(content) => built.raw("content", content),
        None => return Err(Refusal::invalid("content must be present")),
    };
    let timestamp = Timestamp::now();
    let json = built.set("timestamp", &timestamp).rest_of(&object).build();
    let payload = message.payload.with_json(json);
    let published =
        publish(app, client, message.room, "newMessage", payload, &message.id, Except::nobody())
            .await?;
    let sent = ObjectBuilder::default()
        .raw("id", &message.id.json)
        .set("timestamp", &published.timestamp)
        .set("status", "sent")
        .build();
    client.outlet.send(&Packet::new("messageSent", Payload::from_raw(sent)));
    Ok(published.acknowledge(&message.id))
}

/// Sends a client's object or text to every client of its namespace, itself included.
///
/// # Errors
/// `forbidden` where its token names the rooms that it may send to.
pub fn send_to_namespace(
    app: &App,
    client: &Client,
    payload: Payload,
    id: &MessageId,
) -> Result<Payload, Refusal> {
    client.permit_namespace()?;
    app.bus.signal_namespace(
        &client.namespace,
        &Packet::new("message", payload),
        &Except::nobody(),
    );
    let ack = ObjectBuilder::default()
        .set("success", &true)
        .raw("id", &id.json)
        .set("roomName", &None::<&str>)
        .set("timestamp", &Timestamp::now())
        .build();
    Ok(Payload::from_raw(ack))
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
    let question = Question::ToClient { client: id, namespace: namespace.map(Into::into) };
    let told = peers::ask::<bool>(app, &question, Some(packet)).await;
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

/// A room message that was taken.
struct Published {
    room: RoomName,
    timestamp: Timestamp,
    offset: Option<u64>,
}

impl Published {
    fn acknowledge(&self, id: &MessageId) -> Payload {
        let mut ack = ObjectBuilder::default()
            .set("success", &true)
            .raw("id", &id.json)
            .set("roomName", &self.room)
            .set("timestamp", &self.timestamp);
        if let Some(offset) = &self.offset {
            ack = ack.set("offset", offset);
        }
        Payload::from_raw(ack.build())
    }
}

async fn publish(
    app: &App,
    client: &Client,
    room: RoomName,
    event: &'static str,
    payload: Payload,
    id: &MessageId,
    except: Except,
) -> Result<Published, Refusal> {
    client.permit(&room)?;
    let timestamp = Timestamp::now();
    let message = RoomMessage {
        namespace: client.namespace.clone(),
        room: room.clone(),
        event: event.into(),
        payload,
        id: id.text.clone(),
        timestamp,
        except,
    };
    let offset = app.bus.publish(message).await?;
    Ok(Published { room, timestamp, offset })
}

/// The simplest acknowledgement.
pub fn success() -> Payload {
    #[derive(Serialize)]
    struct Success {
        success: bool,
    }
    Payload::of(&Success { success: true })
}
