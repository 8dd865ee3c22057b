//! Pages of a room's history.

use serde::Serialize;
use utoipa::ToSchema;

use super::{MAX_PAGE_BYTES, send_items};
use crate::{
    commands::context::App,
    hub::{Client, Namespace, sender::Packet},
    protocol::{
        epoch::Epoch,
        message_id::MessageId,
        names::{RoomName, UserId},
        payload::{ObjectBuilder, Payload},
        position::Position,
        refusal::{Code, Refusal},
        timestamp::Timestamp,
    },
    store::{Query, RoomKey, Store, Stored},
};

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
    if client.outlet.is_over() {
        // It may have asked for much before it was cut off.
        return Err(Refusal::new(Code::Unavailable, "the connection is over"));
    }
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
    let page = send_page(log, client, &key, after, request.limit).await?;
    let complete = |ack: ObjectBuilder<'_>| {
        let answer = ack
            .set("roomId", room)
            .set("syncedMessageCount", &page.count)
            .set("offset", &page.newest)
            .set("epoch", &page.epoch.to_string())
            .set("complete", &page.complete);
        Payload::from_raw(answer.build())
    };
    client.outlet.send(&Packet::new("syncComplete", complete(ObjectBuilder::default())));
    Ok(complete(ObjectBuilder::default().set("success", &true)))
}

/// What a page was, once it is sent.
#[derive(Debug)]
struct SentPage {
    count: usize,
    /// The newest message that was sent; the head where there was none.
    newest: u64,
    epoch: Epoch,
    /// Whether nothing came after it when the page began.
    complete: bool,
}

/// Sends a page of what comes after an offset, piece by piece as the client reads. It ends, at the
/// latest, with the message that was the newest when it began, and before a message that was dropped
/// from the history meanwhile.
async fn send_page(
    log: &Store,
    client: &Client,
    key: &RoomKey,
    after: u64,
    limit: usize,
) -> Result<SentPage, Refusal> {
    let query = |after, limit, left| {
        let max_bytes = client.outlet.piece_bytes().min(left);
        Query { after, limit, max_bytes, receipts: false }
    };
    let mut left = MAX_PAGE_BYTES;
    let mut piece = log.read(key, query(after, limit, left)).await?;
    let Position { offset: head, epoch } = piece.extent.head;
    let mut page = SentPage { count: 0, newest: head, epoch, complete: piece.complete };
    loop {
        let is_first = page.count == 0;
        let goes_on = |item: &Stored| is_first || item.offset == page.newest + 1;
        if piece.extent.head.epoch != epoch || !piece.items.first().is_some_and(goes_on) {
            return Ok(page);
        }
        let items = fitting(piece.items, head, if is_first { usize::MAX } else { left });
        if items.is_empty() {
            return Ok(page);
        }
        page.count += items.len();
        left = left.saturating_sub(items.iter().map(|item| item.entry.size()).sum());
        page.newest = send_items(client, items, page.newest).await;
        page.complete = page.newest >= head;
        client.outlet.room().await;
        if page.complete || page.count >= limit || left == 0 || client.outlet.is_over() {
            return Ok(page);
        }
        piece = log.read(key, query(page.newest, limit - page.count, left)).await?;
    }
}

/// The first of these messages, up to the offset `head`, that have so many bytes together.
fn fitting(mut items: Vec<Stored>, head: u64, mut bytes: usize) -> Vec<Stored> {
    let fits = |item: &&Stored| match bytes.checked_sub(item.entry.size()) {
        Some(left) if item.offset <= head => {
            bytes = left;
            true
        }
        _ => false,
    };
    let count = items.iter().take_while(fits).count();
    items.truncate(count);
    items
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
        data: Payload::stored(item.entry.json, &[]),
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
        offset: page.extent.head.offset,
        epoch: Some(page.extent.head.epoch.to_string()),
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
    let head = log.extent(&namespace.key(room)).await?.head;
    Ok(Some((head.offset, head.epoch.to_string())))
}

fn log(app: &App) -> Result<&Store, Refusal> {
    app.bus.log().ok_or_else(|| {
        Refusal::new(
            Code::Unavailable,
            "history is off (HISTORY_SIZE=0): nothing can be synchronised",
        )
    })
}
