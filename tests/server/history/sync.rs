//! `syncMessages`.

use serde_json::{Value, json};

use super::{MESSAGES, assert_refused, fill, next_offset, offset_of, server, with};
use crate::support::TestClient;

/// Asks for a page; the ack, which `syncComplete` repeats, and the offsets that came.
async fn sync(client: &mut TestClient, request: Value) -> (Value, Vec<u64>) {
    let mut ack = client.ask("syncMessages", request).await;
    assert_eq!(ack["success"], true, "{ack}");
    let mut names = MESSAGES.to_vec();
    names.push("syncComplete");
    let mut offsets = Vec::new();
    loop {
        let event = client.next_of(&names).await;
        if event.name != "syncComplete" {
            offsets.push(offset_of(&event.data));
            continue;
        }
        let fields = ack.as_object_mut().unwrap();
        fields.shift_remove("success");
        assert_eq!(event.data, ack, "the same object");
        assert_eq!(ack["syncedMessageCount"], offsets.len());
        return (ack, offsets);
    }
}

#[tokio::test]
async fn a_page_begins_after_what_is_known() {
    let server = server().await;
    let (mut sender, mut client) = (server.client().await, server.client().await);
    for (id, offset) in [(json!("a"), 1), (json!(7), 2), (json!("a"), 3), (json!("b"), 4)] {
        let ack = sender.ask("message", json!({"roomName": "r", "id": id})).await;
        assert_eq!(ack["offset"], offset);
    }
    for (request, wanted) in [
        (json!({"roomId": "r"}), vec![1, 2, 3, 4]),
        (json!({"roomId": "r", "offset": 0}), vec![1, 2, 3, 4]),
        (json!({"roomId": "r", "offset": 2}), vec![3, 4]),
        (json!({"roomId": "r", "offset": 4}), vec![]),
        (json!({"roomId": "r", "offset": 99}), vec![]),
        (json!({"roomId": "r", "lastMessageId": 7}), vec![3, 4]),
        (json!({"roomId": "r", "lastMessageId": "7"}), vec![3, 4]),
        // The newest of those with that id.
        (json!({"roomId": "r", "lastMessageId": "a"}), vec![4]),
        (json!({"roomId": "r", "lastMessageId": "a", "offset": 1}), vec![4]),
        (json!({"roomId": "r", "lastMessageId": null, "offset": 3}), vec![4]),
        (json!({"roomName": "never written"}), vec![]),
    ] {
        let (complete, offsets) = sync(&mut client, request.clone()).await;
        assert_eq!(offsets, wanted, "{request}");
        assert_eq!(complete["complete"], true, "{request}");
        let room = request.get("roomId").unwrap_or(&request["roomName"]);
        assert_eq!(complete["roomId"], *room);
        assert_eq!(complete["offset"], if room == "r" { 4 } else { 0 }, "{request}");
        assert_eq!(complete["epoch"].as_str().unwrap().len(), 16);
    }
    let keys = sync(&mut client, json!({"roomId": "r"})).await.0;
    let keys = keys.as_object().unwrap().keys().collect::<Vec<_>>();
    assert_eq!(keys, ["roomId", "syncedMessageCount", "offset", "epoch", "complete"]);
}

#[tokio::test]
async fn messages_come_as_the_events_that_they_were() {
    let server = server().await;
    let (mut sender, mut member, mut client) =
        (server.client().await, server.client().await, server.client().await);
    member.join("r").await;
    sender.emit("sendMessage", json!({"roomId": "r", "content": {"z": 1, "a": 2}})).await;
    sender.emit("channels", json!({"roomName": "r", "k": 2})).await;
    let live = [member.next_of(&MESSAGES).await, member.next_of(&MESSAGES).await];
    client.ask("syncMessages", json!({"roomId": "r"})).await;
    for live in live {
        let again = client.next_of(&MESSAGES).await;
        assert_eq!((again.name, again.text), (live.name, live.text));
    }
    assert_eq!(client.all("syncComplete").await.len(), 1);
    sender.emit("channels", json!({"resourceId": 1})).await;
    sender.settle().await;
    let (complete, offsets) = sync(&mut client, json!({"resourceId": 1})).await;
    assert_eq!((&complete["roomId"], offsets), (&json!("resource:1"), vec![1]));
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused() {
    let server = server().await;
    let mut client = server.client().await;
    fill(&mut client, "r", 1).await;
    for (request, code) in [
        (json!({"roomId": "r", "limit": 0}), "invalid_payload"),
        (json!({"roomId": "r", "limit": 1001}), "invalid_payload"),
        (json!({"roomId": "r", "limit": "x"}), "invalid_payload"),
        (json!({"roomId": "r", "limit": "10"}), "invalid_payload"),
        (json!({"roomId": "r", "limit": 1.5}), "invalid_payload"),
        (json!({"roomId": "r", "offset": -1}), "invalid_payload"),
        (json!({"roomId": "r", "offset": "1"}), "invalid_payload"),
        (json!({"roomId": "r", "lastMessageId": true}), "invalid_payload"),
        (json!({"roomId": "r", "lastMessageId": "unknown"}), "not_found"),
        (json!({"roomId": "elsewhere", "lastMessageId": "unknown"}), "not_found"),
        (json!({"offset": 1}), "no_room"),
        (json!("r"), "invalid_payload"),
    ] {
        let ack = client.ask("syncMessages", request).await;
        assert_refused(&ack, code);
        assert_eq!(client.next("error").await["code"], code);
        assert_eq!(client.next("exception").await["status"], "error");
    }
    assert_eq!(client.all("syncComplete").await, Vec::<Value>::new());
    for limit in [1, 1000] {
        sync(&mut client, json!({"roomId": "r", "limit": limit})).await;
    }
}

#[tokio::test]
async fn pages_lead_to_the_end() {
    let server = server().await;
    let mut client = server.client().await;
    fill(&mut client, "r", 250).await;
    let (page, offsets) = sync(&mut client, json!({"roomId": "r"})).await;
    assert_eq!(offsets, (1..=100).collect::<Vec<_>>(), "a hundred unless told otherwise");
    assert_eq!((&page["offset"], &page["complete"]), (&json!(100), &json!(false)));
    let (mut seen, mut complete, mut after) = (Vec::new(), false, 0);
    while !complete {
        let request = json!({"roomId": "r", "offset": after, "limit": 60});
        let (page, offsets) = sync(&mut client, request).await;
        seen.extend(offsets);
        after = offset_of(&page);
        complete = page["complete"].as_bool().unwrap();
    }
    assert!(seen.into_iter().eq(1..=250));
    let (page, offsets) =
        sync(&mut client, json!({"roomId": "r", "offset": 150, "limit": 100})).await;
    assert_eq!((offsets.len(), &page["complete"]), (100, &json!(true)), "full, and the last");
}

#[tokio::test]
async fn a_page_has_at_most_eight_megabytes() {
    let server = server().await;
    let mut client = server.client().await;
    let text = "x".repeat(900_000);
    for _ in 0..9 {
        client.ask("message", json!({"roomName": "r", "text": text})).await;
    }
    let (page, offsets) = sync(&mut client, json!({"roomId": "r"})).await;
    assert_eq!((offsets.len(), &page["complete"]), (8, &json!(false)));
    let (page, offsets) = sync(&mut client, json!({"roomId": "r", "offset": page["offset"]})).await;
    assert_eq!((offsets, &page["complete"]), (vec![9], &json!(true)));
}

#[tokio::test]
async fn only_the_newest_are_kept() {
    let server = with(|config| config.history_size = 10).await;
    let mut client = server.client().await;
    fill(&mut client, "r", 35).await;
    let (page, offsets) = sync(&mut client, json!({"roomId": "r", "offset": 3})).await;
    assert_eq!(offsets, (26..=35).collect::<Vec<_>>());
    assert_eq!(page["complete"], true);
    client.join("r").await;
    client.ask("message", json!({"roomName": "r", "replyToSender": true})).await;
    assert_eq!(next_offset(&mut client).await, 36);
}
