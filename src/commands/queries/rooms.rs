//! Rooms.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Coverage,
    page::{Page, Part},
};
use crate::{
    broker::survey::{PageRequest, Survey},
    commands::{context::Context, history},
    hub::{self, Client, Namespace},
    protocol::{
        names::RoomName,
        refusal::{Code, Refusal},
        timestamp::Timestamp,
    },
};

/// A room.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    /// Its name.
    #[schema(example = "room-7")]
    name: String,
    /// Its namespace.
    #[schema(example = "/")]
    namespace: String,
    /// The number of its members.
    connections: usize,
    /// When its first member joined; `null` if only the history is left.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    created_at: Option<Timestamp>,
    /// The time of the last message or signal; `null` if only the history is left.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    last_activity: Option<Timestamp>,
}

impl Room {
    fn of(room: &hub::Room) -> Self {
        Self {
            name: room.name.to_string(),
            namespace: room.namespace.to_string(),
            connections: room.lock().members().len(),
            created_at: Some(room.created_at),
            last_activity: Some(room.last_activity()),
        }
    }

    /// Adds the same room of another node.
    fn join(&mut self, other: &Self) {
        self.connections += other.connections;
        self.created_at = [self.created_at, other.created_at].into_iter().flatten().min();
        self.last_activity = self.last_activity.max(other.last_activity);
    }
}

/// A room that has a member, with its members.
#[derive(Debug, Serialize, Deserialize)]
pub struct LiveRoom {
    room: Room,
    members: Vec<Member>,
}

/// A room with its members, offset and epoch.
#[derive(Debug, Serialize, ToSchema)]
pub struct RoomDetail {
    #[serde(flatten)]
    room: Room,
    /// Its members.
    members: Vec<Member>,
    /// The offset of its newest message; 0 without history.
    offset: u64,
    /// Changes only if the history was lost; `null` without history.
    #[schema(required)]
    epoch: Option<String>,
    /// Whether all nodes are in it.
    #[serde(flatten)]
    coverage: Coverage,
}

/// A client in a room.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Its id.
    #[schema(example = "3qwd6cWPZVJxGsnkAAAB")]
    client_id: String,
    /// Its user, once known.
    #[schema(required, example = "alice")]
    user_id: Option<String>,
    /// Its name.
    #[schema(example = "Alice")]
    client_name: String,
}

/// The rooms of a namespace that have a member, on all nodes.
pub async fn rooms(context: &Context, namespace: &Namespace, page: &PageRequest) -> Page<Room> {
    let question = Survey::Rooms { namespace: namespace.path.clone(), page: page.clone() };
    let elsewhere = context.broker.survey(&question, None).await;
    Page::of(rooms_here(namespace, page), elsewhere, page, |room, other| room.join(&other))
}

/// The rooms of a namespace that have a member on this node.
pub fn rooms_here(namespace: &Namespace, page: &PageRequest) -> Part<Room> {
    let rooms = namespace.rooms().into_iter().map(|room| (room.name.to_string(), room)).collect();
    Part::of(rooms, page, |room: Arc<hub::Room>| Room::of(&room))
}

/// A room that has a member or a history.
///
/// # Errors
/// `not_found`; `unavailable` while the history cannot be read, or if a node did not answer.
pub async fn room(
    context: &Context,
    namespace: &Namespace,
    name: &RoomName,
) -> Result<RoomDetail, Refusal> {
    let position = history::position(context, namespace, name).await?;
    let question = Survey::Room { namespace: namespace.path.clone(), room: name.clone() };
    let mut elsewhere = context.broker.survey::<Option<LiveRoom>>(&question, None).await;
    let answers = std::mem::take(&mut elsewhere.answers);
    let live = std::iter::once(room_here(namespace, name)).chain(answers).flatten();
    let live = live.reduce(|mut room, other| {
        room.room.join(&other.room);
        room.members.extend(other.members);
        room
    });
    if live.is_none() && position.as_ref().is_none_or(|(head, _)| *head == 0) {
        let message = format!(
            "nobody is in the room \"{name}\" of {}, and it has no history",
            namespace.path
        );
        return Err(elsewhere.or_unreachable(Refusal::new(Code::NotFound, message)));
    }
    let gone = || Room {
        name: name.to_string(),
        namespace: namespace.path.to_string(),
        connections: 0,
        created_at: None,
        last_activity: None,
    };
    let (room, members) =
        live.map_or_else(|| (gone(), Vec::new()), |live| (live.room, live.members));
    let (offset, epoch) = position.map_or((0, None), |(head, epoch)| (head, Some(epoch)));
    Ok(RoomDetail { room, members, offset, epoch, coverage: Coverage::of(&elsewhere) })
}

/// A room that has a member on this node.
pub fn room_here(namespace: &Namespace, name: &RoomName) -> Option<LiveRoom> {
    let room = namespace.room(name.as_str()).filter(|room| !room.is_vacant())?;
    let members = members(&room);
    // Members come and go: the number must match the list.
    Some(LiveRoom { room: Room { connections: members.len(), ..Room::of(&room) }, members })
}

fn members(room: &hub::Room) -> Vec<Member> {
    let clients = room.lock().members().map(|member| member.client.clone()).collect::<Vec<_>>();
    let member = |client: Arc<Client>| Member {
        client_id: client.id.to_string(),
        user_id: client.user().map(|user| user.to_string()),
        client_name: client.name.to_string(),
    };
    clients.into_iter().map(member).collect()
}
