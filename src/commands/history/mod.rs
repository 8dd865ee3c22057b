//! A room's history: recovery on join, and paging.

mod page;
mod recovery;

pub use self::{
    page::{HistoryItem, HistoryPage, HistoryReceipt, page, position},
    recovery::{JoinPosition, Recovery, enter},
};
use crate::{
    broker::fanout::stored_packet,
    hub::{Client, packet::KeptFor},
    protocol::names::RoomName,
    store::Stored,
};

/// The greatest number of messages in one page.
pub const MAX_PAGE: u64 = 1000;

/// The greatest size of a page or a replay, in bytes.
pub(super) const MAX_PAGE_BYTES: usize = 8_000_000;

/// Sends messages at the client's pace, so that a long reply does not make it a slow consumer. Those of a room that
/// the client enters or is in (`of`) are kept if its connection is lost. Returns the newest offset; messages to a
/// client that is gone count as sent.
pub(super) async fn send_items(
    client: &Client,
    items: Vec<Stored>,
    mut seen: u64,
    of: Option<&RoomName>,
) -> u64 {
    let bytes = items.iter().map(|item| item.entry.size()).sum();
    let mut charge = client.sender.account().charge_outgoing(bytes);
    for item in items {
        client.sender.room().await;
        // From here on it is charged as unsent data.
        charge.give_back(item.entry.size());
        let mut packet = stored_packet(&item.entry, item.offset);
        if let Some(room) = of.filter(|_| client.sender.journal().is_some()) {
            packet = packet.kept_for(KeptFor::Room(room.clone()));
        }
        client.sender.send(&packet);
        seen = item.offset;
    }
    seen
}
