//! Recovery on join.
//!
//! A client that (re)joins a room gets every message exactly once, in order, while others send at full speed.
//! First the room pauses delivery to the client; then the log is read up to its head and replayed; then,
//! under the room's lock, the client becomes a member and gets the paused messages that are newer than the
//! replay.

use std::sync::Arc;

use super::{MAX_PAGE_BYTES, send_items};
use crate::{
    commands::context::Context,
    hub::{Client, Room, RoomState},
    protocol::{names::RoomName, payload::ObjectBuilder, position::Position, refusal::Refusal},
    store::{Extent, Page, Query, RoomKey, Store, StoreError},
};

/// What a client already has of a room.
#[derive(Debug, Clone)]
pub struct Recovery {
    /// The newest offset it has.
    pub offset: u64,
    /// The epoch that the offset belongs to, where the client knows it.
    pub epoch: Option<String>,
}

/// Where the client entered a room; empty without history.
#[derive(Debug, Clone, Default)]
pub struct JoinPosition {
    position: Option<Position>,
    recovery: Option<Outcome>,
}

#[derive(Debug, Clone)]
struct Outcome {
    recovered: bool,
    missed: u64,
    oldest: u64,
}

impl JoinPosition {
    /// Adds the fields to a join's acknowledgement.
    pub fn describe<'a>(&'a self, mut ack: ObjectBuilder<'a>) -> ObjectBuilder<'a> {
        if let Some(Position { offset, epoch }) = &self.position {
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

/// What joins read of the rooms' logs; the model test has a log of its own.
pub(super) trait Log: Sync {
    fn extent(&self, room: &RoomKey) -> impl Future<Output = Result<Extent, StoreError>> + Send;
    fn read(
        &self,
        room: &RoomKey,
        query: Query,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send;
}

impl Log for Store {
    async fn extent(&self, room: &RoomKey) -> Result<Extent, StoreError> {
        self.extent(room).await
    }

    async fn read(&self, room: &RoomKey, query: Query) -> Result<Page, StoreError> {
        self.read(room, query).await
    }
}

/// Replays what the client asked to recover, then calls `enter` under the room's lock. Whatever `enter` sends
/// precedes all messages that are newer than the join position.
///
/// # Errors
/// `too_many_rooms`; `unavailable` while the history cannot be read, or other nodes cannot be reached.
/// Then `enter` was not called.
pub async fn enter(
    context: &Context,
    client: &Arc<Client>,
    room: &RoomName,
    recover: Option<&Recovery>,
    enter: impl FnOnce(&mut RoomState, &Arc<Room>, &JoinPosition),
) -> Result<(), Refusal> {
    let held = Held::begin(client, room)?;
    if let Some(cluster) = &context.cluster {
        // Before the log is read, so that no message falls in between.
        held.room.keep_subscription(cluster.subscribe(&client.namespace.key(room)).await?);
    }
    let Some(log) = context.broker.log() else {
        let mut state = held.room.lock();
        state.abandon(&client.id);
        enter(&mut state, &held.room, &JoinPosition::default());
        return Ok(());
    };
    enter_from(log, &held, recover, context.config.recovery_limit, enter).await
}

/// The same with a log.
pub(super) async fn enter_from(
    log: &impl Log,
    held: &Held<'_>,
    recover: Option<&Recovery>,
    limit: u64,
    enter: impl FnOnce(&mut RoomState, &Arc<Room>, &JoinPosition),
) -> Result<(), Refusal> {
    let client = held.client;
    let key = client.namespace.key(&held.room.name);
    let mut extent = log.extent(&key).await?;
    let replayed = match recover {
        Some(recover) => replay(log, client, &key, &mut extent, recover, limit).await?,
        None => None,
    };
    let mut is_replayed = replayed.is_some();
    // Without a replay, members keep their position, or start with a new history that is still empty.
    let begins_at = extent.head;
    let has_restarted = |at: &Position| at.epoch != begins_at.epoch && begins_at.offset == 0;
    let goes_on = !is_replayed && held.member.is_some_and(|at| !has_restarted(&at));
    // The position up to which the client has everything; `None` for a newcomer, which starts at the head.
    let member = held.member.map(|at| if has_restarted(&at) { begins_at } else { at });
    let mut reached = replayed.or(member);
    let mut from = (!goes_on).then(|| reached.unwrap_or(begins_at));
    let mut enter = Some(enter);
    loop {
        let released = held.room.lock().resume_delivery(&client.id, from, |state, position| {
            let missed = |recover: &Recovery| reached.map_or(0, |to| to.offset - recover.offset);
            let recovery = recover.map(|recover| Outcome {
                recovered: is_replayed,
                missed: if is_replayed { missed(recover) } else { 0 },
                oldest: extent.oldest,
            });
            if let Some(enter) = enter.take() {
                enter(state, &held.room, &JoinPosition { position: Some(position), recovery });
            }
        });
        if released {
            return Ok(());
        }
        // A newcomer starts later; the others must get everything that came.
        extent = log.extent(&key).await?;
        if let Some(at) = reached {
            let purpose = if is_replayed { Purpose::Replay } else { Purpose::Delivery };
            reached = send_up_to(log, client, &key, at, &mut extent, purpose).await?;
            if reached.is_none() {
                // Trimmed: report `recovered: false`, or disconnect so that the client recovers.
                is_replayed = false;
                if recover.is_none() {
                    client.sender.break_off();
                }
            }
        }
        from = Some(reached.unwrap_or(extent.head));
    }
}

/// The room's delivery to a client is paused, until it is resumed or this is dropped.
pub(super) struct Held<'a> {
    client: &'a Client,
    room: Arc<Room>,
    /// The position up to which a member has everything; `None` for a newcomer.
    member: Option<Position>,
}

impl<'a> Held<'a> {
    pub(super) fn begin(client: &'a Arc<Client>, room: &RoomName) -> Result<Self, Refusal> {
        let (room, member) = client
            .namespace
            .with_room(room, |room, state| (room.clone(), state.pause_delivery(client)))?;
        Ok(Self { client, room, member })
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.room.lock().abandon(&self.client.id);
        self.client.namespace.retire(&self.room);
    }
}

/// Sends the client everything after its offset and returns its new position. Sends nothing and returns
/// `None` if the history does not reach back, the offset is of another history, or too much was missed.
/// Updates `extent` where it reads the log.
async fn replay(
    log: &impl Log,
    client: &Client,
    key: &RoomKey,
    extent: &mut Extent,
    recover: &Recovery,
    limit: u64,
) -> Result<Option<Position>, Refusal> {
    let head = extent.head;
    let same_epoch = recover.epoch.as_ref().is_none_or(|epoch| *epoch == head.epoch.to_string());
    let after = head.at(recover.offset);
    if !same_epoch || !head.covers(after) || after.offset + 1 < extent.oldest {
        return Ok(None);
    }
    let missed = head.offset - after.offset;
    if limit > 0 && missed > limit {
        return Ok(None);
    }
    if limit == 0 {
        return send_up_to(log, client, key, after, extent, Purpose::Replay).await;
    }
    if missed == 0 {
        return Ok(Some(after));
    }
    let mut until = *extent;
    let (mut at, mut bytes, mut first) = (after, 0, None);
    // All of it is sent, or nothing: several pieces are first read once, to see that all of it is there.
    while !at.covers(head) {
        let piece = read_piece(log, client, key, at).await?;
        *extent = piece.extent;
        bytes += piece.items.iter().map(|item| item.entry.size()).sum::<usize>();
        if !follows(&piece, at) || bytes > MAX_PAGE_BYTES {
            return Ok(None);
        }
        at = at.at(piece.items.last().map_or(at.offset, |item| item.offset));
        first.get_or_insert(piece.items);
    }
    let first = first.unwrap_or_default();
    let seen = after.at(send_items(client, first, after.offset, Some(&key.room)).await);
    let sent = send_up_to(log, client, key, seen, &mut until, Purpose::Replay).await?;
    if sent.is_none() {
        *extent = until;
    }
    Ok(sent)
}

/// The next piece of the log after a position.
async fn read_piece(
    log: &impl Log,
    client: &Client,
    key: &RoomKey,
    at: Position,
) -> Result<Page, Refusal> {
    let max_bytes = client.sender.piece_bytes();
    let query = Query { after: at.offset, limit: 1000, max_bytes, receipts: false };
    Ok(log.read(key, query).await?)
}

/// Why messages of the log are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The client asked for them: it gets all.
    Replay,
    /// Live delivery would have sent them: those that exclude the client are skipped.
    Delivery,
}

/// Sends everything after `at` up to the extent's head, piece by piece as the client reads. Returns the
/// client's new position, or `None`, with `extent` updated, if the next message is trimmed.
async fn send_up_to(
    log: &impl Log,
    client: &Client,
    key: &RoomKey,
    mut at: Position,
    extent: &mut Extent,
    purpose: Purpose,
) -> Result<Option<Position>, Refusal> {
    let head = extent.head;
    while !at.covers(head) {
        client.sender.room().await;
        let mut page = read_piece(log, client, key, at).await?;
        if !follows(&page, at) {
            *extent = page.extent;
            return Ok(None);
        }
        let newest = page.items.last().map_or(at.offset, |item| item.offset);
        if purpose == Purpose::Delivery {
            page.items.retain(|item| !client.is_left_out(&item.except));
        }
        send_items(client, page.items, at.offset, Some(&key.room)).await;
        at = at.at(newest);
    }
    Ok(Some(at))
}

/// Whether the page continues right after this position, in its epoch.
fn follows(page: &Page, at: Position) -> bool {
    page.extent.head.epoch == at.epoch
        && page.items.first().is_some_and(|item| at.is_followed_by(at.at(item.offset)))
}

#[cfg(test)]
mod model;

#[cfg(test)]
#[cfg(feature = "shuttle")]
mod shuttle_tests;
