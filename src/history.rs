//! What was sent before: recovery on join, paging, and what they promise.
//!
//! A client that (re)joins a room gets every message exactly once, in order, while others send at
//! full speed. First what the room delivers is held back for it; then the log is read up to its
//! head and replayed; then, under the room's lock, it becomes a member and gets what was held back
//! and is newer than the replay.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    app::App,
    clock::Timestamp,
    fanout::stored_packet,
    message_id::MessageId,
    names::{RoomName, UserId},
    outlet::Packet,
    payload::{ObjectBuilder, Payload, raw},
    refusal::{Code, Refusal},
    registry::{Client, Namespace, Room, RoomState},
    store::{self, Epoch, Position, Query, Store},
};

/// The greatest number of messages in one page.
pub const MAX_PAGE: u64 = 1000;

/// The greatest size of a page or a replay, in bytes.
const MAX_PAGE_BYTES: usize = 8_000_000;

/// What a client has of a room already.
#[derive(Debug, Clone)]
pub struct Recovery {
    /// The newest offset it has.
    pub offset: u64,
    /// The epoch that the offset belongs to, where the client knows it.
    pub epoch: Option<String>,
}

/// Where a room's history stood when the client entered; nothing without history.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    position: Option<(u64, Epoch)>,
    recovery: Option<Outcome>,
}

#[derive(Debug, Clone)]
struct Outcome {
    recovered: bool,
    missed: u64,
    oldest: u64,
}

impl Standing {
    /// Adds the fields to a join's acknowledgement.
    pub fn describe<'a>(&'a self, mut ack: ObjectBuilder<'a>) -> ObjectBuilder<'a> {
        if let Some((offset, epoch)) = &self.position {
            ack = ack.set("offset", offset).set("epoch", &epoch.to_string());
        }
        if let Some(recovery) = &self.recovery {
            ack = ack
                .set("recovered", &recovery.recovered)
                .set("missed", &recovery.missed)
                .set("oldestOffset", &recovery.oldest);
        }
        ack
    }
}

/// Calls `enter` under the room's lock, once the client has been sent what it asked to recover.
///
/// # Errors
/// `too_many_rooms`; `unavailable` while the history cannot be read, or other nodes cannot be reached.
/// Then `enter` was not called.
pub async fn enter(
    app: &App,
    client: &Arc<Client>,
    room: &RoomName,
    recover: Option<&Recovery>,
    enter: impl FnOnce(&mut RoomState, &Arc<Room>),
) -> Result<Standing, Refusal> {
    let namespace = &client.namespace;
    let key = namespace.key(room);
    let held = Held::begin(client, room)?;
    if let Some(cluster) = &app.cluster {
        // Before the position is read, so that nothing falls in between.
        held.room.attend(cluster.attend(&key).await?);
    }
    let Some(log) = app.bus.log() else {
        let mut state = held.room.lock();
        state.abandon(client.id);
        enter(&mut state, &held.room);
        return Ok(Standing::default());
    };
    let mut position = log.position(&key).await?;
    let mut replayed = match recover {
        Some(recover) => {
            let limit = app.config.recovery_limit;
            replay(log, client, &key, &mut position, recover, limit).await?
        }
        None => None,
    };
    // Who is replayed nothing goes on where it was, if it is a member, and else begins at the head.
    let mut seen = replayed.or(held.member).unwrap_or(position.head);
    let mut enter = Some(enter);
    let reached = loop {
        let released = held.room.lock().release(client.id, seen, |state| {
            if let Some(enter) = enter.take() {
                enter(state, &held.room);
            }
        });
        if let Some(reached) = released {
            break reached;
        }
        // More came than is held back. A newcomer begins later; the others must get all of it.
        position = log.position(&key).await?;
        if replayed.is_some() || held.member.is_some() {
            if let Some(sent) = send_up_to(log, client, &key, seen, &mut position).await? {
                seen = sent;
                replayed = replayed.and(Some(sent));
                continue;
            }
            // Nor is it kept any more. Who asked is told so; who did not comes back and asks.
            replayed = None;
            if recover.is_none() {
                client.outlet.break_off();
            }
        }
        seen = position.head;
    };
    let recovery = recover.map(|recover| Outcome {
        recovered: replayed.is_some(),
        missed: replayed.map_or(0, |replayed| replayed - recover.offset),
        oldest: position.oldest,
    });
    Ok(Standing { position: Some((reached, position.epoch)), recovery })
}

/// The room's messages are held back for a client, until it is released or this is dropped.
struct Held<'a> {
    client: &'a Client,
    room: Arc<Room>,
    /// Up to where the client is up to date, if it is a member already.
    member: Option<u64>,
}

impl<'a> Held<'a> {
    fn begin(client: &'a Arc<Client>, room: &RoomName) -> Result<Self, Refusal> {
        let (room, member) =
            client.namespace.with_room(room, |room, state| (room.clone(), state.hold(client)))?;
        Ok(Self { client, room, member })
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.room.lock().abandon(self.client.id);
        self.client.namespace.retire(&self.room);
    }
}

/// Sends the client everything after what it has and returns up to where it is up to date now, or
/// sends nothing: `None` where the history does not reach back, the offset is not of this history,
/// or too much was missed. The `position` is brought up to date where the log is read.
async fn replay(
    log: &Store,
    client: &Client,
    key: &store::RoomKey,
    position: &mut Position,
    recover: &Recovery,
    limit: u64,
) -> Result<Option<u64>, Refusal> {
    let after = recover.offset;
    let same_epoch =
        recover.epoch.as_ref().is_none_or(|epoch| *epoch == position.epoch.to_string());
    if !same_epoch || after > position.head || after + 1 < position.oldest {
        return Ok(None);
    }
    let missed = position.head - after;
    if limit > 0 && missed > limit {
        return Ok(None);
    }
    if limit == 0 {
        return send_up_to(log, client, key, after, position).await;
    }
    if missed == 0 {
        return Ok(Some(after));
    }
    let query = Query {
        after,
        limit: usize::try_from(missed).unwrap_or(usize::MAX),
        max_bytes: MAX_PAGE_BYTES,
        receipts: false,
    };
    let head = position.head;
    let page = log.read(key, query).await?;
    *position = page.position;
    let items = page.items;
    let reaches_back = items.first().is_some_and(|item| item.offset == after + 1);
    let reaches_head = items.last().is_some_and(|item| item.offset == head);
    if !reaches_back || !reaches_head {
        return Ok(None);
    }
    Ok(Some(send_items(client, &items, after).await))
}

/// Sends what comes after `seen` up to the position's head, page by page, as all of it might not fit
/// into the memory; returns the newest offset that was sent, or `None`, with the position brought up
/// to date, where what comes next is not kept any more.
async fn send_up_to(
    log: &Store,
    client: &Client,
    key: &store::RoomKey,
    mut seen: u64,
    position: &mut Position,
) -> Result<Option<u64>, Refusal> {
    let head = position.head;
    while seen < head {
        let query = Query { after: seen, limit: 1000, max_bytes: MAX_PAGE_BYTES, receipts: false };
        let page = log.read(key, query).await?;
        if page.items.first().is_none_or(|item| item.offset != seen + 1) {
            *position = page.position;
            return Ok(None);
        }
        seen = send_items(client, &page.items, seen).await;
    }
    Ok(Some(seen))
}

/// At the client's pace: what it asked for does not make it a slow one.
async fn send_items(client: &Client, items: &[store::Stored], mut seen: u64) -> u64 {
    for item in items {
        client.outlet.room().await;
        client.outlet.send(&stored_packet(&item.entry, item.offset));
        seen = item.offset;
    }
    seen
}

/// Where a page begins.
#[derive(Debug)]
pub enum SyncFrom {
    /// After the newest message with this id.
    Message(MessageId),
    /// After this offset.
    Offset(u64),
    /// With the oldest that is kept.
    Oldest,
}

/// A client's `syncMessages`.
#[derive(Debug)]
pub struct SyncRequest {
    /// The room.
    pub room: RoomName,
    /// Where to begin.
    pub from: SyncFrom,
    /// The greatest number of messages.
    pub limit: usize,
}

/// Sends a client a page of a room's history: the messages as the events that they were, then
/// `syncComplete`. The `offset` of the answer is where the next page begins.
///
/// # Errors
/// `forbidden`; `not_found` for an unknown message; `unavailable` without history, or while it
/// cannot be read.
pub async fn sync(app: &App, client: &Client, request: SyncRequest) -> Result<Payload, Refusal> {
    let room = &request.room;
    client.permit(room)?;
    let log = log(app)?;
    let key = client.namespace.key(room);
    let after = match &request.from {
        SyncFrom::Offset(offset) => *offset,
        SyncFrom::Oldest => 0,
        SyncFrom::Message(id) => {
            let found = log.find_by_message_id(&key, &id.text).await?;
            found.ok_or_else(|| {
                let message =
                    "no message with the id lastMessageId is in the history: page from an offset";
                Refusal::new(Code::NotFound, message)
            })?
        }
    };
    let query = Query { after, limit: request.limit, max_bytes: MAX_PAGE_BYTES, receipts: false };
    let page = log.read(&key, query).await?;
    send_items(client, &page.items, after).await;
    let newest = page.items.last().map_or(page.position.head, |item| item.offset);
    let complete = |ack: ObjectBuilder<'_>| {
        let answer = ack
            .set("roomId", room)
            .set("syncedMessageCount", &page.items.len())
            .set("offset", &newest)
            .set("epoch", &page.position.epoch.to_string())
            .set("complete", &page.complete);
        Payload::from_raw(answer.build())
    };
    client.outlet.send(&Packet::new("syncComplete", complete(ObjectBuilder::default())));
    Ok(complete(ObjectBuilder::default().set("success", &true)))
}

/// One message of a room's history, as `GET /rooms/{room}/messages` shows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct HistoryItem {
    /// Its number in the room, from 1.
    #[schema(minimum = 1)]
    pub offset: u64,
    /// Its id.
    pub id: String,
    /// The event as which it was delivered.
    pub event: String,
    /// The object, without its offset.
    #[schema(value_type = Object)]
    pub data: Payload,
    /// When the server took it.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    /// Who has read it.
    pub receipts: Vec<HistoryReceipt>,
}

/// That a user has read a message.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryReceipt {
    /// The user.
    #[schema(value_type = String)]
    pub user_id: UserId,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
}

/// A page of a room's history.
#[derive(Debug, Serialize, ToSchema)]
pub struct HistoryPage {
    /// The messages, oldest first.
    pub items: Vec<HistoryItem>,
    /// The room's newest offset.
    pub offset: u64,
    /// The room's epoch; `null` without history.
    #[schema(required)]
    pub epoch: Option<String>,
    /// Whether nothing comes after the last item.
    pub complete: bool,
}

/// A page of a room's history after an offset, with receipts.
///
/// # Errors
/// `unavailable` while the history cannot be read.
pub async fn page(
    app: &App,
    namespace: &Namespace,
    room: &RoomName,
    after: u64,
    limit: usize,
) -> Result<HistoryPage, Refusal> {
    let Some(log) = app.bus.log() else {
        return Ok(HistoryPage { items: Vec::new(), offset: 0, epoch: None, complete: true });
    };
    let query = Query { after, limit, max_bytes: MAX_PAGE_BYTES, receipts: true };
    let page = log.read(&namespace.key(room), query).await?;
    let items = page.items.into_iter().map(|item| HistoryItem {
        offset: item.offset,
        id: item.entry.id,
        event: item.entry.event,
        data: Payload::from_raw(raw(&*item.entry.json)),
        timestamp: Timestamp::from_millis(item.entry.timestamp_ms),
        receipts: item
            .receipts
            .into_iter()
            .map(|receipt| HistoryReceipt {
                user_id: receipt.user,
                timestamp: Timestamp::from_millis(receipt.timestamp_ms),
            })
            .collect(),
    });
    Ok(HistoryPage {
        items: items.collect(),
        offset: page.position.head,
        epoch: Some(page.position.epoch.to_string()),
        complete: page.complete,
    })
}

/// The room's newest offset and its epoch; `None` without history.
///
/// # Errors
/// `unavailable` while the history cannot be read.
pub async fn position(
    app: &App,
    namespace: &Namespace,
    room: &RoomName,
) -> Result<Option<(u64, String)>, Refusal> {
    let Some(log) = app.bus.log() else { return Ok(None) };
    let position = log.position(&namespace.key(room)).await?;
    Ok(Some((position.head, position.epoch.to_string())))
}

fn log(app: &App) -> Result<&Store, Refusal> {
    app.bus.log().ok_or_else(|| {
        Refusal::new(
            Code::Unavailable,
            "history is off (HISTORY_SIZE=0): nothing can be synchronised",
        )
    })
}
