//! Recovery on join.
//!
//! A client that (re)joins a room gets every message exactly once, in order, while others send at
//! full speed. First what the room delivers is held back for it; then the log is read up to its
//! head and replayed; then, under the room's lock, it becomes a member and gets what was held back
//! and is newer than the replay.

use std::sync::Arc;

use super::{MAX_PAGE_BYTES, piece_bytes, send_items};
use crate::{
    app::App,
    names::RoomName,
    payload::ObjectBuilder,
    refusal::Refusal,
    registry::{Client, Room, RoomState},
    store::{Epoch, Page, Position, Query, RoomKey, Store},
};

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
    key: &RoomKey,
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
    let mut until = *position;
    let (mut at, mut bytes, mut first) = (after, 0, None);
    // All of it is sent, or nothing: what is more than one piece is read once only to see that it is there.
    while at < until.head {
        let piece = read_piece(log, client, key, at).await?;
        *position = piece.position;
        bytes += piece.items.iter().map(|item| item.entry.size()).sum::<usize>();
        let goes_on = piece.items.first().is_some_and(|item| item.offset == at + 1);
        if !goes_on || piece.position.epoch != until.epoch || bytes > MAX_PAGE_BYTES {
            return Ok(None);
        }
        at = piece.items.last().map_or(at, |item| item.offset);
        first.get_or_insert(piece.items);
    }
    let seen = send_items(client, first.unwrap_or_default(), after).await;
    let sent = send_up_to(log, client, key, seen, &mut until).await?;
    if sent.is_none() {
        *position = until;
    }
    Ok(sent)
}

/// The next piece of what comes after an offset.
async fn read_piece(
    log: &Store,
    client: &Client,
    key: &RoomKey,
    after: u64,
) -> Result<Page, Refusal> {
    let query = Query { after, limit: 1000, max_bytes: piece_bytes(client), receipts: false };
    Ok(log.read(key, query).await?)
}

/// Sends what comes after `seen` up to the position's head, piece by piece as the client reads; returns the newest offset that was sent, or `None`, with the position brought up
/// to date, where what comes next is not kept any more.
async fn send_up_to(
    log: &Store,
    client: &Client,
    key: &RoomKey,
    mut seen: u64,
    position: &mut Position,
) -> Result<Option<u64>, Refusal> {
    let head = position.head;
    while seen < head {
        client.outlet.room().await;
        let page = read_piece(log, client, key, seen).await?;
        if page.items.first().is_none_or(|item| item.offset != seen + 1) {
            *position = page.position;
            return Ok(None);
        }
        seen = send_items(client, page.items, seen).await;
    }
    Ok(Some(seen))
}
