//! Messages of backends: to a room, and to one client.

use std::sync::Arc;

use super::{
    context::Context,
    idempotency::{Keyed, Turn},
    message::MESSAGE_REPLY,
};
use crate::{
    broker::{RoomMessage, survey::Survey},
    hub::{Namespace, packet::Packet},
    protocol::{
        audience::Except,
        client_id::ClientId,
        message_id::MessageId,
        names::RoomName,
        payload::{Payload, raw},
        refusal::{Code, Refusal},
        timestamp::Timestamp,
    },
    store::Done,
};

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
    /// The client that is excluded.
    pub except: Option<ClientId>,
}

/// A backend's message that was published.
#[derive(Debug)]
pub struct Published {
    /// Its offset, with history.
    pub offset: Option<u64>,
    /// The id that it had when it was published before, with the same key.
    pub before: Option<MessageId>,
}

/// Sends a backend's message to a room as `message-reply`; once if it has a key, for which there must be history.
///
/// # Errors
/// `too_many_rooms`, `unavailable`, `idempotency_mismatch`: then nobody receives it.
pub async fn broadcast(
    context: &Context,
    message: Broadcast,
    keyed: Option<Keyed>,
) -> Result<Published, Refusal> {
    context.broker.admit(&message.namespace, Some(&message.room)).await?;
    let Broadcast { namespace, room, payload, id, except } = message;
    let id = MessageId::made(id);
    let message = || RoomMessage {
        namespace: namespace.clone(),
        room: room.clone(),
        event: MESSAGE_REPLY.name.into(),
        payload: payload.clone(),
        id: id.text.clone(),
        timestamp: Timestamp::now(),
        except: Except::client(except.clone()),
        sender: None,
        from: None,
    };
    publish(context, message, keyed, &id).await
}

/// Publishes a backend's message with this id; once if it has a key, which only counts with history.
///
/// # Errors
/// As [`broadcast`].
pub(super) async fn publish(
    context: &Context,
    message: impl Fn() -> RoomMessage,
    keyed: Option<Keyed>,
    id: &MessageId,
) -> Result<Published, Refusal> {
    let Some(keyed) = keyed.filter(|_| context.broker.log().is_some()) else {
        let offset = context.broker.publish(message()).await?;
        return Ok(Published { offset, before: None });
    };
    let (once, mut turn) = (keyed.once(id.json.get()), Turn::of_message());
    loop {
        match context.broker.publish_once(message(), once.clone()).await? {
            Done::Now(offset) => return Ok(Published { offset: Some(offset), before: None }),
            Done::Before(before) => {
                let id = MessageId::given(&raw(&*before.answer)).unwrap_or_else(|| id.clone());
                return Ok(Published { offset: Some(before.number), before: Some(id) });
            }
            Done::UnderWay => turn.pause().await?,
        }
    }
}

/// Sends a backend's packet to one client on any node: in `namespace`, or in any namespace if that is `None`.
///
/// # Errors
/// `not_found` if the client is not connected; `unavailable` if a node did not answer.
pub async fn to_client(
    context: &Context,
    namespace: Option<&str>,
    client: &str,
    packet: &Packet,
) -> Result<(), Refusal> {
    let unknown = || Refusal::new(Code::NotFound, format!("Client {client} is not connected"));
    let id = client.parse().map_err(|_| unknown())?;
    if to_client_here(context, namespace, &id, packet) {
        return Ok(());
    }
    let question = Survey::ToClient { client: id, namespace: namespace.map(Into::into) };
    let told = context.broker.survey::<bool>(&question, Some(packet)).await;
    if told.answers.contains(&true) { Ok(()) } else { Err(told.or_unreachable(unknown())) }
}

/// Sends a packet to one client of this node; returns whether it is here.
pub fn to_client_here(
    context: &Context,
    namespace: Option<&str>,
    id: &ClientId,
    packet: &Packet,
) -> bool {
    let sent = context
        .registry
        .clients(id)
        .iter()
        .filter(|client| namespace.is_none_or(|path| *client.namespace.path == *path))
        .filter(|client| client.sender.offer(packet).is_taken())
        .count();
    context.metrics.delivered(sent);
    sent > 0
}
