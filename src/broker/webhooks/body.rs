//! What a webhook says, in JSON.

use std::sync::{
    LazyLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    protocol::{
        epoch::Epoch,
        names::{RoomName, UserId},
        payload::{Payload, json_of, raw, tagged::to_tagged},
        timestamp::Timestamp,
        webhook::WebhookType,
    },
    store::{StoredWebhook, Stream, Webhook, WebhookMessage},
};

#[derive(Serialize)]
struct Body<D> {
    r#type: &'static str,
    timestamp: Timestamp,
    data: D,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClientData<'a> {
    pub client_id: &'a str,
    pub user_id: Option<UserId>,
    pub client_name: &'a str,
    pub namespace: &'a str,
    pub node: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MemberData<'a> {
    pub room: &'a RoomName,
    pub namespace: &'a str,
    pub client_id: &'a str,
    pub user_id: Option<UserId>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MessageData<'a> {
    pub room: &'a RoomName,
    pub namespace: &'a str,
    pub id: &'a str,
    pub event: &'a str,
    pub user_id: Option<&'a UserId>,
    pub client_id: Option<&'a str>,
}

/// The end of a message's data, after [`MessageData`].
#[derive(Serialize)]
struct MessageEnd<'a> {
    offset: Option<u64>,
    epoch: Option<Epoch>,
    data: &'a RawValue,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct QueuedData<'a> {
    pub user_id: &'a UserId,
    pub id: &'a str,
    pub event: &'a str,
    pub data: &'a RawValue,
}

/// A webhook with these data.
pub(super) fn webhook(
    kind: WebhookType,
    stream: Stream,
    timestamp: Timestamp,
    data: impl Serialize,
) -> Webhook {
    let body = json_of(&Body { r#type: kind.as_str(), timestamp, data });
    let json = Box::<str>::from(body).into_string();
    Webhook { id: new_id(), stream, at_ms: timestamp.as_millis(), json }
}

/// An id that no other webhook has, of any process: half of it is this process's, which costs less than a random one
/// for each.
fn new_id() -> String {
    static OF_PROCESS: LazyLock<u64> = LazyLock::new(|| Uuid::new_v4().as_u64_pair().1);
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("msg_{:016x}{:016x}", *OF_PROCESS, NEXT.fetch_add(1, Relaxed))
}

/// The payload in plain JSON; `None` if it has none, which no gateway lets in.
pub(super) fn plain(payload: &Payload) -> Option<Box<RawValue>> {
    to_tagged(payload).ok().map(raw)
}

/// The whole body of a message's webhook, which begins with `head`.
pub(super) fn complete(
    head: &str,
    message: Option<&WebhookMessage>,
    payload: &Payload,
) -> Option<String> {
    let data = plain(payload)?;
    let end = json_of(&MessageEnd {
        offset: message.map(|message| message.position.offset),
        epoch: message.map(|message| message.position.epoch),
        data: &data,
    });
    // The end goes on where the beginning stops.
    Some(format!("{head},{}}}", end.get().strip_prefix('{')?))
}

/// The body of a webhook; `None` if its message is damaged, or cannot be written as JSON.
pub fn body_of(webhook: StoredWebhook) -> Option<String> {
    match &webhook.message {
        Some(message) if message.json.is_empty() => None,
        Some(message) => body_of_message(&webhook.json, message),
        None => Some(webhook.json),
    }
}

/// The body of a room message's webhook.
fn body_of_message(head: &str, message: &WebhookMessage) -> Option<String> {
    let payload = Payload::stored(message.json.clone(), &message.attachments);
    complete(head, Some(message), &payload.numbered(message.position.offset))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::protocol::position::Position;

    #[test]
    fn a_messages_body_is_completed_where_its_offset_is_known() {
        let room = RoomName::parse("r").unwrap();
        let data = MessageData {
            room: &room,
            namespace: "/",
            id: "1",
            event: "message-reply",
            user_id: None,
            client_id: Some("c"),
        };
        let stream = Stream::of_client("c");
        let kind = WebhookType::MessageCreated;
        let mut begun = webhook(kind, stream, Timestamp::from_millis(0), data);
        begun.json.truncate(begun.json.len() - 2);
        let message = WebhookMessage {
            position: Position { offset: 7, epoch: Epoch(1) },
            json: r#"{"a":{"_placeholder":true,"num":0}}"#.into(),
            attachments: vec![bytes::Bytes::from_static(b"x")],
        };
        let body = body_of_message(&begun.json, &message).unwrap();
        let wanted = json!({
            "type": "message.created",
            "timestamp": "1970-01-01T00:00:00.000Z",
            "data": {
                "room": "r", "namespace": "/", "id": "1", "event": "message-reply",
                "userId": null, "clientId": "c", "offset": 7, "epoch": "0000000000000001",
                "data": {"a": {"$binary": "eA=="}, "offset": 7},
            },
        });
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), wanted);
        let unlogged = complete(&begun.json, None, &Payload::from_raw(raw("{}"))).unwrap();
        let unlogged: Value = serde_json::from_str(&unlogged).unwrap();
        assert_eq!(unlogged["data"]["offset"], Value::Null);
        assert_eq!(unlogged["data"]["data"], json!({}));
    }
}
