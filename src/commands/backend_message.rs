//! Messages of backends: to a room, and to one client.

use std::sync::Arc;

use super::{context::Context, message::MESSAGE_REPLY};
use crate::{
    broker::{RoomMessage, survey::Survey},
    hub::{Namespace, packet::Packet},
    protocol::{
        audience::Except,
        client_id::ClientId,
        names::RoomName,
        payload::Payload,
        refusal::{Code, Refusal},
        timestamp::Timestamp,
    },
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

/// Sends a backend's message to a room as `message-reply`; returns its offset, with history.
///
/// # Errors
/// `too_many_rooms`, `unavailable`: then nobody receives it.
pub async fn broadcast(context: &Context, message: Broadcast) -> Result<Option<u64>, Refusal> {
    context.broker.admit(&message.namespace, Some(&message.room)).await?;
    let message = RoomMessage {
        namespace: message.namespace,
        room: message.room,
        event: MESSAGE_REPLY.name.into(),
        payload: message.payload,
        id: message.id,
        timestamp: Timestamp::now(),
        except: Except::client(message.except),
        sender: None,
        from: None,
    };
    context.broker.publish(message).await
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
        .filter(|client| client.sender.send(packet).is_taken())
        .count();
    context.metrics.delivered(sent);
    sent > 0
}
