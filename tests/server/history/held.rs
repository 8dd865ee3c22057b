//! What is held back for a member that is being brought up to date.

use std::sync::Arc;

use roomcast::{
    broker::RoomMessage,
    hub::{Client, Room},
    protocol::{audience::Except, names::RoomName, payload::Payload, timestamp::Timestamp},
};
use serde_json::{Value, json};

use super::{next_offset, server};
use crate::support::{TestClient, TestServer};

/// A member for whom the room holds back what comes, as a second join does while it reads.
async fn held(server: &TestServer) -> (TestClient, Arc<Client>, Arc<Room>) {
    let mut member = server.client().await;
    member.join("r").await;
    let namespace = server.app.registry.namespace("/").unwrap();
    let client = namespace.client(&member.id.parse().unwrap()).unwrap();
    let room = namespace.room("r").unwrap();
    room.lock().pause_delivery(&client);
    (member, client, room)
}

async fn publish(server: &TestServer, except: Except) {
    let message = RoomMessage {
        namespace: server.app.registry.namespace("/").unwrap().clone(),
        room: RoomName::parse("r").unwrap(),
        event: "message-reply".into(),
        payload: Payload::of(&json!({})),
        id: "m".into(),
        timestamp: Timestamp::now(),
        except,
        sender: None,
        from: None,
    };
    server.app.broker.publish(message).await.unwrap();
}

#[tokio::test]
async fn a_member_whose_join_fails_gets_what_came_meanwhile() {
    let server = server().await;
    let (mut member, client, room) = held(&server).await;
    publish(&server, Except::nobody()).await;
    assert_eq!(member.all("message-reply").await, Vec::<Value>::new(), "it is held back");
    room.lock().abandon(&client.id);
    assert_eq!(next_offset(&mut member).await, 1);
    publish(&server, Except::nobody()).await;
    assert_eq!(next_offset(&mut member).await, 2);
}

#[tokio::test]
async fn who_is_left_out_is_left_out_of_what_is_held_back_too() {
    let server = server().await;
    let (mut member, client, room) = held(&server).await;
    publish(&server, Except::client(Some(client.id.clone()))).await;
    publish(&server, Except::nobody()).await;
    assert!(room.lock().resume_delivery(&client.id, None, |_, _| ()));
    assert_eq!(next_offset(&mut member).await, 2);
    assert_eq!(member.all("message-reply").await, Vec::<Value>::new());
}
