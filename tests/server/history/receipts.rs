//! Receipts, recorded with the messages.

use roomcast::{
    commands::history::{self, HistoryPage},
    protocol::names::RoomName,
};
use serde_json::{Value, json};

use super::{in_file, server, with};
use crate::support::{TestClient, TestServer};

async fn read(client: &mut TestClient, id: Value) -> Value {
    let ack = client.ask("readReceipt", json!({"roomId": "r", "messageId": id})).await;
    assert_eq!(ack["success"], true, "{ack}");
    ack["recorded"].clone()
}

async fn page(server: &TestServer) -> HistoryPage {
    let namespace = server.app.registry.namespace("/").unwrap();
    history::page(&server.app, &namespace, &RoomName::parse("r").unwrap(), 0, 100).await.unwrap()
}

/// Who has read each message, in their order.
async fn readers(server: &TestServer) -> Vec<Vec<String>> {
    let read_by = |receipts: Vec<history::HistoryReceipt>| {
        receipts.iter().map(|receipt| receipt.user_id.to_string()).collect()
    };
    page(server).await.items.into_iter().map(|item| read_by(item.receipts)).collect()
}

#[tokio::test]
async fn a_members_user_is_recorded_once_with_the_newest_message_of_that_id() {
    let server = server().await;
    let (mut reader, mut sender) = (server.client().await, server.client().await);
    for id in [json!("a"), json!("a"), json!(7)] {
        sender.ask("message", json!({"roomName": "r", "id": id})).await;
    }
    assert_eq!(read(&mut reader, json!("a")).await, false, "neither a member nor a user");
    reader.join("r").await;
    assert_eq!(read(&mut reader, json!("a")).await, false, "no user");
    reader.authenticate("ann").await;
    assert_eq!(read(&mut reader, json!("a")).await, true);
    assert_eq!(read(&mut reader, json!("a")).await, true, "it is recorded");
    assert_eq!(read(&mut reader, json!("7")).await, true, "a number is its decimal string");
    assert_eq!(read(&mut reader, json!("unknown")).await, false);
    sender.authenticate("bob").await;
    assert_eq!(read(&mut sender, json!("a")).await, false, "not a member");
    let mut second = server.client().await;
    second.authenticate("ann").await;
    second.join("r").await;
    assert_eq!(read(&mut second, json!("a")).await, true);
    assert_eq!(readers(&server).await, [vec![], vec!["ann".to_owned()], vec!["ann".to_owned()]]);
}

#[tokio::test]
async fn the_members_are_told_whatever_is_recorded() {
    let server = server().await;
    let (mut member, mut other) = (server.client().await, server.client().await);
    member.join("r").await;
    member.authenticate("ann").await;
    for (client, id) in [(&mut member, json!("gone")), (&mut other, json!(9))] {
        assert_eq!(read(client, id).await, false);
    }
    for (id, user) in [(json!("gone"), json!("ann")), (json!(9), Value::Null)] {
        let told = member.next("messageRead").await;
        assert_eq!((&told["messageId"], &told["userId"]), (&id, &user));
        assert_eq!(told["roomId"], "r");
    }
}

#[tokio::test]
async fn receipts_go_with_their_message_and_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let configure = |config: &mut roomcast::config::Config| {
        config.store_url = in_file(&directory);
        config.history_size = 2;
    };
    let first = with(configure).await;
    let mut client = first.client().await;
    client.authenticate("ann").await;
    client.join("r").await;
    for id in 1..=2 {
        client.ask("message", json!({"roomName": "r", "id": id})).await;
        assert_eq!(read(&mut client, json!(id)).await, true);
    }
    first.stop().await;
    let second = with(configure).await;
    assert_eq!(readers(&second).await, [["ann"], ["ann"]]);
    let mut client = second.client().await;
    client.authenticate("ann").await;
    client.join("r").await;
    client.ask("message", json!({"roomName": "r", "id": 3})).await;
    assert_eq!(read(&mut client, json!(1)).await, false, "it is not kept any more");
    let page = page(&second).await;
    assert_eq!(page.items.iter().map(|item| item.offset).collect::<Vec<_>>(), [2, 3]);
    assert_eq!((page.offset, page.complete), (3, true));
    second.stop().await;
}
