//! Pages of a room's history.

use serde::Serialize;
use utoipa::ToSchema;

use super::MAX_PAGE_BYTES;
use crate::{
    commands::context::Context,
    hub::Namespace,
    protocol::{
        names::{RoomName, UserId},
        payload::Payload,
        refusal::Refusal,
        timestamp::Timestamp,
    },
    store::Query,
};

/// One message of a room's history, as `GET /rooms/{room}/messages` shows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct HistoryItem {
    /// Its number in the room, from 1.
    #[schema(minimum = 1)]
    pub offset: u64,
    /// Its id.
    pub id: String,
    /// The event that delivered it.
    pub event: String,
    /// The object, without its offset.
    #[schema(value_type = Object)]
    pub data: Payload,
    /// When the server accepted it.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    /// Who has read it.
    pub receipts: Vec<HistoryReceipt>,
}

/// A receipt: a user has read a message.
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
    /// Whether this is the last page.
    pub complete: bool,
}

/// A page of a room's history after an offset, with receipts.
///
/// # Errors
/// `unavailable` while the history cannot be read.
pub async fn page(
    context: &Context,
    namespace: &Namespace,
    room: &RoomName,
    after: u64,
    limit: usize,
) -> Result<HistoryPage, Refusal> {
    let Some(log) = context.broker.log() else {
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
    context: &Context,
    namespace: &Namespace,
    room: &RoomName,
) -> Result<Option<(u64, String)>, Refusal> {
    let Some(log) = context.broker.log() else { return Ok(None) };
    let head = log.extent(&namespace.key(room)).await?.head;
    Ok(Some((head.offset, head.epoch.to_string())))
}
