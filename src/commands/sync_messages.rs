//! `syncMessages`: a page of a room's history, for a client.

use super::{
    arguments::{MAX_SAFE_INTEGER, integer, room_in},
    context::Context,
    event::{Caller, ClientEvent, Event, Feature, Incoming, Outcome, ServerEvent},
    history::{MAX_PAGE, MAX_PAGE_BYTES, send_items},
    schema::{count, epoch, flag, id, object, of_room, room, yes},
};
use crate::{
    hub::{Client, packet::Packet},
    protocol::{
        epoch::Epoch,
        message_id::MessageId,
        names::RoomName,
        payload::{ObjectBuilder, Payload},
        permissions::Right,
        position::Position,
        refusal::{Code, Refusal},
    },
    store::{Query, RoomKey, Store, Stored},
};
use serde_json::json;

const SYNC_COMPLETE: ServerEvent = ServerEvent::state("syncComplete","SyncComplete","The page of history is complete.").to("The client that sent `syncMessages`.").example(r#"{"roomId":"lobby","syncedMessageCount":100,"offset":142,"epoch":"5c1f0a7be2d94c83","complete":false}"#);

pub(super) const FEATURE: Feature = Feature {
    client: &[ClientEvent::new::<SyncMessages>(
        "syncMessages",
        "SyncMessages",
        "SyncAcknowledge",
        "Reads a room's history. The messages arrive as their original events, oldest first, followed by `syncComplete`.",
    ).example(r#"{"roomId":"lobby","offset":42,"limit":100}"#).refusals(&[Code::NoRoom, Code::Forbidden, Code::NotFound])],
    server: &[SYNC_COMPLETE],
    schemas: || {
        let sync = [
            ("success", yes()),
            ("roomId", room()),
            ("syncedMessageCount", count("The number of messages that were sent.")),
            ("offset", count("The `offset` for the next page.")),
            ("epoch", epoch()),
            ("complete", flag("Whether this was the last page.")),
        ];
        vec![
            (
                "SyncMessages",
                of_room(
                    "The part of the history to read: after `lastMessageId`, else after `offset`, else from the oldest message.",
                    &[
                        ("lastMessageId?", id()),
                        ("offset?", count("The newest offset that the client has.")),
                        (
                            "limit?",
                            json!({"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 100}),
                        ),
                    ],
                ),
            ),
            ("SyncAcknowledge", object("The page was sent.", &sync)),
            ("SyncComplete", object("The page was sent.", &sync[1..])),
        ]
    },
};

/// Where a page begins.
enum From {
    /// After the newest message with this id.
    Message(MessageId),
    /// After this offset.
    Offset(u64),
    /// From the oldest kept message on.
    Oldest,
}

/// A client wants a page of a room's history.
struct SyncMessages {
    room: RoomName,
    from: From,
    /// The maximum number of messages.
    limit: usize,
}

impl Event for SyncMessages {
    fn parse(incoming: &Incoming<'_>) -> Result<Self, Refusal> {
        let object = incoming.object()?;
        let room = room_in(object)?.name;
        let from = match (object.get("lastMessageId"), object.get("offset")) {
            (Some(id), _) => {
                let id = MessageId::given(id).ok_or_else(|| {
                    Refusal::invalid("lastMessageId must be a string or a number")
                })?;
                From::Message(id)
            }
            (None, Some(offset)) => From::Offset(integer("offset", offset, 0, MAX_SAFE_INTEGER)?),
            (None, None) => From::Oldest,
        };
        let limit = match object.get("limit") {
            Some(limit) => {
                usize::try_from(integer("limit", limit, 1, MAX_PAGE)?).unwrap_or(usize::MAX)
            }
            None => 100,
        };
        Ok(Self { room, from, limit })
    }

    /// Sends the messages as their original events, then `syncComplete`. The `offset` of the answer is where
    /// the next page begins. Refused as `not_found` for an unknown message, as `unavailable` without history
    /// or while it cannot be read.
    async fn run(self, caller: Caller) -> Outcome {
        let (context, client) = (&caller.context, &*caller.client);
        let room = &self.room;
        client.permit(Right::Read, room)?;
        if client.sender.is_over() {
            // It may have asked for many pages before it was cut off.
            return Err(Refusal::new(Code::Unavailable, "the connection is closed"));
        }
        let log = log(context)?;
        let key = client.namespace.key(room);
        let after = match &self.from {
            From::Offset(offset) => *offset,
            From::Oldest => 0,
            From::Message(id) => {
                let found = log.find_by_message_id(&key, &id.text).await?;
                found.ok_or_else(|| {
                    let message =
                        "the history has no message with the id lastMessageId: read from an offset";
                    Refusal::new(Code::NotFound, message)
                })?
            }
        };
        let page = send_page(log, client, &key, after, self.limit).await?;
        let complete = |ack: ObjectBuilder<'_>| {
            let answer = ack
                .set("roomId", room)
                .set("syncedMessageCount", &page.count)
                .set("offset", &page.newest)
                .set("epoch", &page.epoch.to_string())
                .set("complete", &page.complete);
            Payload::from_raw(answer.build())
        };
        client.sender.send(&Packet::new(SYNC_COMPLETE.name, complete(ObjectBuilder::default())));
        Ok(Some(complete(ObjectBuilder::default().set("success", &true))))
    }
}

/// The result of sending a page.
#[derive(Debug)]
struct SentPage {
    count: usize,
    /// The offset of the newest message that was sent; the head if none was.
    newest: u64,
    epoch: Epoch,
    /// Whether nothing came after the page when it began.
    complete: bool,
}

/// Sends a page of what comes after an offset, piece by piece as the client reads. It ends at the latest with
/// the message that was the newest when it began, and before a message that was trimmed meanwhile.
async fn send_page(
    log: &Store,
    client: &Client,
    key: &RoomKey,
    after: u64,
    limit: usize,
) -> Result<SentPage, Refusal> {
    let query = |after, limit, left| {
        let max_bytes = client.sender.piece_bytes().min(left);
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
        page.newest = send_items(client, items, page.newest, None).await;
        page.complete = page.newest >= head;
        client.sender.room().await;
        if page.complete || page.count >= limit || left == 0 || client.sender.is_over() {
            return Ok(page);
        }
        piece = log.read(key, query(page.newest, limit - page.count, left)).await?;
    }
}

/// The first of these messages, up to the offset `head`, that fit into `bytes` together.
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

fn log(context: &Context) -> Result<&Store, Refusal> {
    context.broker.log().ok_or_else(|| {
        Refusal::new(
            Code::Unavailable,
            "history is off (HISTORY_SIZE=0): nothing can be synchronised",
        )
    })
}
