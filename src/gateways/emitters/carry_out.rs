//! Carries out what emitters ask for, in its order.
//!
//! Messages are handed to the log in their order and awaited together, so that many of them share a commit.
//! Everything else waits for what came before it: who is put into a room by one operation gets what the next one
//! sends there.

use futures_util::future::join_all;
use indexmap::IndexMap;

use super::reading::{Emit, Operation};
use crate::{
    broker::survey::{Membership, Target},
    commands::{
        backend_event::{self, Audience, BackendEvent, Keys},
        backend_membership,
        context::Context,
        queries,
    },
    protocol::{
        client_id::ClientId,
        names::RoomName,
        refusal::{Code, Refusal},
    },
};

/// The result of an operation.
pub(super) type Outcome = Result<(), Refusal>;

/// Carries out operations; the outcomes are in their order.
pub(super) async fn carry_out(context: &Context, operations: Vec<Operation>) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(operations.len());
    let mut operations = operations.into_iter().peekable();
    while let Some(operation) = operations.next() {
        match operation {
            Operation::Emit(first) => {
                let is_message = first.is_message();
                let mut run = vec![first];
                let is_of_run = |next: &Operation| matches!(next, Operation::Emit(next) if next.is_message() == is_message);
                while let Some(Operation::Emit(next)) = operations.next_if(is_of_run) {
                    run.push(next);
                }
                let sent = if is_message {
                    publish(context, run).await
                } else {
                    join_all(run.into_iter().map(|emit| send(context, emit))).await
                };
                outcomes.extend(sent);
            }
            Operation::Change { clients, rooms, joins } => {
                let target = Target::Selected(clients);
                let change = Membership { target, namespace: None, rooms, joins };
                outcomes.push(backend_membership::change(context, change).await.map(drop));
            }
            Operation::Disconnect { clients, closes } => {
                backend_membership::disconnect_selected(context, clients, closes).await;
                outcomes.push(Ok(()));
            }
        }
    }
    outcomes
}

/// Sends an event that is no message.
async fn send(context: &Context, emit: Emit) -> Outcome {
    let event = address(context, emit).await?;
    backend_event::send(context, event, Keys::None).await.map(drop)
}

/// Sends messages to rooms. Each begins before the next one does, and all are awaited together.
async fn publish(context: &Context, emits: Vec<Emit>) -> Vec<Outcome> {
    let events = join_all(emits.into_iter().map(|emit| address(context, emit))).await;
    // A room that is behind is waited for once, and not by the messages to other rooms.
    let mut places = IndexMap::new();
    for event in events.iter().flatten() {
        for room in event.rooms() {
            places
                .entry((event.namespace.path.clone(), room.clone()))
                .or_insert_with(|| event.namespace.clone());
        }
    }
    let admitted = places
        .iter()
        .map(async |((_, room), namespace)| context.broker.admit(namespace, Some(room)).await);
    let admitted = join_all(admitted).await;
    let admission = |event: &BackendEvent| {
        event.rooms().iter().try_for_each(|room| {
            let place = places.get_index_of(&(event.namespace.path.clone(), room.clone()));
            place.map_or(Ok(()), |place| admitted[place].clone())
        })
    };
    let begun = events.into_iter().map(|event| {
        let admitted = event.and_then(|event| admission(&event).map(|()| event));
        admitted.map(|event| (backend_event::begin(context, &event), event))
    });
    // All have begun before the first one is awaited.
    let begun = begun.collect::<Vec<_>>();
    join_all(begun.into_iter().map(async |begun| {
        let (published, event) = begun?;
        published.await?;
        match event.without_rooms() {
            Some(event) => backend_event::send(context, event, Keys::None).await.map(drop),
            None => Ok(()),
        }
    }))
    .await
}

/// Finds out which of the rooms are clients.
async fn address(context: &Context, emit: Emit) -> Result<BackendEvent, Refusal> {
    let Emit { namespace, event, data, is_list, rooms: names, except, volatile } = emit;
    let audience = if names.is_empty() {
        Audience::Everyone
    } else {
        let (mut rooms, mut clients) = (Vec::new(), Vec::new());
        for name in names {
            match client(context, &namespace.path, &name).await? {
                Some(id) => clients.push(id),
                None => rooms.push(name),
            }
        }
        Audience::These { rooms, users: Vec::new(), clients }
    };
    Ok(BackendEvent { namespace, event, data, is_list, audience, except, volatile })
}

/// The client that a room's name is the id of. Many rooms have names that look like one: what has members here is
/// a room.
async fn client(
    context: &Context,
    path: &str,
    name: &RoomName,
) -> Result<Option<ClientId>, Refusal> {
    let Ok(id) = name.as_str().parse::<ClientId>() else { return Ok(None) };
    if let Some(namespace) = context.registry.namespace(path) {
        if namespace.client(&id).is_some() {
            return Ok(Some(id));
        }
        if namespace.room(name.as_str()).is_some() {
            return Ok(None);
        }
    }
    match queries::connection(context, id.as_str(), Some(path)).await {
        Ok(_) => Ok(Some(id)),
        Err(refusal) if refusal.code == Code::NotFound => Ok(None),
        Err(refusal) => Err(refusal),
    }
}
