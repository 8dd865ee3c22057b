//! Reads the answers of the scripts.

use std::sync::Arc;

use bytes::Buf;
use redis::Value;

use super::outbox::Figures;

use crate::{
    protocol::{names::UserId, position::Position},
    store::{
        codec::{self, DecodeError},
        types::{Extent, Page, Query, QueuedItem, Receipt, StoreError, Stored},
        webhook::{FailedPlace, FailedWebhook, StoredWebhook, WebhookMessage},
    },
};

impl From<DecodeError> for StoreError {
    fn from(error: DecodeError) -> Self {
        Self::Unavailable(format!("what lies in Redis is {error}"))
    }
}

/// The answer to an append.
pub(super) struct Appended {
    pub position: Position,
    /// The message's place in the whole log.
    pub number: u64,
    /// How many rooms there are now, if this append added one.
    pub rooms: Option<u64>,
    /// How many rooms were forgotten to make place.
    pub evicted: u64,
}

pub(super) fn appended(value: &Value) -> Result<Appended, DecodeError> {
    let [offset, epoch, number, rooms @ ..] = array(value)? else { return Err(DecodeError) };
    Ok(Appended {
        position: position(offset, epoch)?,
        number: self::number(number)?,
        rooms: rooms.first().map(self::number).transpose()?,
        evicted: rooms.get(1).map_or(Ok(0), self::number)?,
    })
}

fn position(offset: &Value, epoch: &Value) -> Result<Position, DecodeError> {
    Ok(Position { offset: number(offset)?, epoch: codec::epoch(text(epoch)?)? })
}

pub(super) fn number(value: &Value) -> Result<u64, DecodeError> {
    match value {
        Value::Int(number) => u64::try_from(*number).map_err(|_| DecodeError),
        _ => Err(DecodeError),
    }
}

pub(super) fn optional_number(value: &Value) -> Result<Option<u64>, DecodeError> {
    match value {
        Value::Nil => Ok(None),
        value => number(value).map(Some),
    }
}

pub(super) fn page(value: &Value, query: Query) -> Result<Page, DecodeError> {
    let [head, oldest, epoch, entries, from, receipts, left_out] = array(value)? else {
        return Err(DecodeError);
    };
    let extent = Extent { head: position(head, epoch)?, oldest: number(oldest)? };
    let first = number(from)?;
    let receipts = array(receipts)?;
    let mut items = Vec::new();
    let entries = array(entries)?.iter().zip(array(left_out)?);
    for ((offset, (entry, except)), at) in (first..).zip(entries).zip(0..) {
        let receipts = receipts.get(at).map_or(Ok(Vec::new()), self::receipts)?;
        let entry = codec::decode_entry(bytes(entry)?)?;
        let except = codec::decode_except(bytes(except)?)?;
        items.push(Stored { offset, entry, except, receipts });
    }
    // Computed here: the greatest numbers do not fit into a script.
    let from = extent.oldest.max(query.after.saturating_add(1));
    let head = extent.head.offset;
    let complete = items.last().map_or(from > head, |last| last.offset == head);
    Ok(Page { items, extent, complete })
}

/// A message's receipts, in the order in which they were recorded.
fn receipts(value: &Value) -> Result<Vec<Receipt>, DecodeError> {
    let mut placed = Vec::new();
    for pair in array(value)?.chunks(2) {
        let [user, recorded] = pair else { return Err(DecodeError) };
        let (place, time) = text(recorded)?.split_once(':').ok_or(DecodeError)?;
        let place: u64 = place.parse().map_err(|_| DecodeError)?;
        let timestamp_ms = time.parse().map_err(|_| DecodeError)?;
        let user = UserId::parse(text(user)?).map_err(|_| DecodeError)?;
        placed.push((place, Receipt { user, timestamp_ms }));
    }
    placed.sort_by_key(|(place, _)| *place);
    Ok(placed.into_iter().map(|(_, receipt)| receipt).collect())
}

/// The number of waiting messages, and those that were read.
pub(super) fn queued(value: &Value) -> Result<(u64, Vec<QueuedItem>), DecodeError> {
    let [count, items] = array(value)? else { return Err(DecodeError) };
    let items = array(items)?.chunks(2).map(|pair| {
        let [seq, entry] = pair else { return Err(DecodeError) };
        Ok(QueuedItem { seq: number(seq)?, entry: codec::decode_entry(bytes(entry)?)? })
    });
    Ok((number(count)?, items.collect::<Result<_, _>>()?))
}

/// The webhooks of a page.
pub(super) fn webhooks(value: &Value) -> Result<Vec<StoredWebhook>, DecodeError> {
    let webhook = |value: &Value| match array(value)? {
        [seq, rest @ ..] => webhook(number(seq)?, rest),
        [] => Err(DecodeError),
    };
    array(value)?.iter().map(webhook).collect()
}

/// A webhook, from what is kept of it, and the entry, offset and epoch of its message.
fn webhook(seq: u64, parts: &[Value]) -> Result<StoredWebhook, DecodeError> {
    let [kept, entry, offset, epoch, ..] = parts else { return Err(DecodeError) };
    let (at_ms, id, json) = unpack_webhook(bytes(kept)?)?;
    let message = match bytes(entry)? {
        [] => None,
        entry => {
            let offset = text(offset)?.parse().map_err(|_| DecodeError)?;
            let epoch = codec::epoch(text(epoch)?)?;
            let entry = codec::decode_entry(entry)?;
            Some(WebhookMessage {
                position: Position { offset, epoch },
                json: entry.json,
                attachments: entry.attachments,
            })
        }
    };
    Ok(StoredWebhook { seq, id, at_ms, json, message })
}

/// When it happened, its id and its JSON, of what is kept of a webhook.
fn unpack_webhook(mut kept: &[u8]) -> Result<(i64, String, String), DecodeError> {
    let at_ms = kept.try_get_i64().map_err(|_| DecodeError)?;
    let length = kept.try_get_u32().map_err(|_| DecodeError)?;
    let length = usize::try_from(length).map_err(|_| DecodeError)?;
    let (id, json) = kept.split_at_checked(length).ok_or(DecodeError)?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError);
    Ok((at_ms, text(id)?, text(json)?))
}

/// The webhooks that were given up, of a page.
pub(super) fn failed_webhooks(value: &Value) -> Result<Vec<FailedWebhook>, DecodeError> {
    let failed = |value: &Value| {
        let [place, parts @ .., error] = array(value)? else { return Err(DecodeError) };
        let place = failed_place(place)?;
        Ok(FailedWebhook {
            place,
            failed_at_ms: i64::try_from(place.0).map_err(|_| DecodeError)?,
            error: text(error)?.to_owned(),
            webhook: webhook(0, parts)?,
        })
    };
    array(value)?.iter().map(failed).collect()
}

/// The places and ids of webhooks that were given up.
pub(super) fn failed_ids(value: &Value) -> Result<Vec<(FailedPlace, String)>, DecodeError> {
    let failed = |value: &Value| {
        let [place, kept] = array(value)? else { return Err(DecodeError) };
        Ok((failed_place(place)?, unpack_webhook(bytes(kept)?)?.1))
    };
    array(value)?.iter().map(failed).collect()
}

fn failed_place(value: &Value) -> Result<FailedPlace, DecodeError> {
    text(value)?.parse().map_err(|_| DecodeError)
}

/// How the outbox is.
pub(super) fn figures(value: &Value) -> Result<Figures, DecodeError> {
    let [pending, dropped, failed, oldest] = array(value)? else { return Err(DecodeError) };
    Ok(Figures {
        pending: number(pending)?,
        dropped: number(dropped)?,
        failed: number(failed)?,
        oldest_ms: bytes(oldest)?.try_get_i64().ok(),
    })
}

/// The nodes that are new, and those that are lost.
pub(super) fn told_nodes(value: &Value) -> Result<(Vec<String>, Vec<String>), DecodeError> {
    let [started, lost] = array(value)? else { return Err(DecodeError) };
    Ok((names(started)?, names(lost)?))
}

/// Where a look through what was told goes on, and what was found.
pub(super) fn told(value: &Value) -> Result<(String, Vec<String>), DecodeError> {
    let [cursor, found] = array(value)? else { return Err(DecodeError) };
    Ok((text(cursor)?.to_owned(), names(found)?))
}

/// Names, or other texts.
pub(super) fn names(value: &Value) -> Result<Vec<String>, DecodeError> {
    array(value)?.iter().map(|name| text(name).map(str::to_owned)).collect()
}

/// The number and the answer of a write that happened before.
pub(super) fn done_before(parts: &[Value]) -> Result<(u64, Arc<str>), DecodeError> {
    let [number, answer] = parts else { return Err(DecodeError) };
    Ok((self::number(number)?, text(answer)?.into()))
}

/// A part of the revocations.
pub(super) struct RevocationPage {
    pub epoch: String,
    /// The version of the last one.
    pub version: u64,
    pub more: bool,
    pub items: Vec<String>,
}

pub(super) fn revocations(value: &Value) -> Result<RevocationPage, DecodeError> {
    let [epoch, version, more, items] = array(value)? else { return Err(DecodeError) };
    let items = array(items)?.iter().map(|item| text(item).map(str::to_owned));
    Ok(RevocationPage {
        epoch: text(epoch)?.to_owned(),
        version: number(version)?,
        more: number(more)? == 1,
        items: items.collect::<Result<_, _>>()?,
    })
}

/// A step of the sweep: whether there may be more, and how many rooms are left.
pub(super) fn swept(value: &Value) -> Result<(bool, u64), DecodeError> {
    let [more, rooms] = array(value)? else { return Err(DecodeError) };
    Ok((number(more)? == 1, number(rooms)?))
}

/// A part of the members of a sorted set: where the scan goes on, and the members.
pub(super) fn scanned(value: &Value) -> Result<(String, Vec<String>), DecodeError> {
    let [cursor, found] = array(value)? else { return Err(DecodeError) };
    let members = array(found)?.iter().step_by(2).map(|name| text(name).map(str::to_owned));
    Ok((text(cursor)?.to_owned(), members.collect::<Result<_, _>>()?))
}

fn array(value: &Value) -> Result<&[Value], DecodeError> {
    match value {
        Value::Array(values) => Ok(values),
        _ => Err(DecodeError),
    }
}

fn bytes(value: &Value) -> Result<&[u8], DecodeError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        _ => Err(DecodeError),
    }
}

fn text(value: &Value) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes(value)?).map_err(|_| DecodeError)
}
