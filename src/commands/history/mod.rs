//! What was sent before: recovery on join, paging, and what they promise.

mod page;
mod recovery;

pub use self::{
    page::{HistoryItem, HistoryPage, HistoryReceipt, page, position},
    recovery::{JoinPosition, Recovery, enter},
};
use crate::{broker::fanout::stored_packet, hub::Client, store::Stored};

/// The greatest number of messages in one page.
pub const MAX_PAGE: u64 = 1000;

/// The greatest size of a page or a replay, in bytes.
pub(super) const MAX_PAGE_BYTES: usize = 8_000_000;

/// Sends messages at the client's pace: what it asked for does not make it a slow one. Returns the
/// newest; what it is sent no more, as it is gone, counts as sent.
pub(super) async fn send_items(client: &Client, items: Vec<Stored>, mut seen: u64) -> u64 {
    let bytes = items.iter().map(|item| item.entry.size()).sum();
    let mut charge = client.sender.account().charge_outgoing(bytes);
    for item in items {
        client.sender.room().await;
        // From here on it is charged as a part of what is unsent.
        charge.give_back(item.entry.size());
        client.sender.send(&stored_packet(&item.entry, item.offset));
        seen = item.offset;
    }
    seen
}
