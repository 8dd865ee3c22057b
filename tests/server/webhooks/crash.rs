//! Whatever was acknowledged before a `kill -9` is told, in the order of its room.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::json;

use super::receiver::{Receiver, Reply, SECRET};
use crate::support::process::{self, ServerProcess};

/// How many messages are acknowledged at least, over how many lives of the server.
const MESSAGES: usize = 5_000;
const ROUNDS: usize = 10;
const ROOMS: [&str; 3] = ["a", "b", "c"];
const SENDERS: usize = 4;
/// So many messages of one sender may wait for their acks.
const UNDER_WAY: usize = 16;

async fn start(store: &std::path::Path, url: &str) -> ServerProcess {
    let mut command = process::command(store);
    command
        .env("WEBHOOK_URL", url)
        .env("WEBHOOK_SECRET", SECRET)
        .env("WEBHOOK_EVENTS", "message.created,node.*")
        .env("HISTORY_SIZE", "10");
    process::start(command).await
}

/// Sends until the server is gone: the ids of what was acknowledged, by room and offset.
async fn send_until_the_end(
    server: &ServerProcess,
    name: String,
    enough: tokio::sync::mpsc::UnboundedSender<()>,
) -> impl Future<Output = Vec<(&'static str, u64, String)>> + use<> {
    let mut client = server.connecting().join().await;
    async move {
        let (mut acknowledged, mut under_way) = (Vec::new(), HashMap::new());
        for n in 0.. {
            let (id, room) = (format!("{name}-{n}"), ROOMS[n % ROOMS.len()]);
            let message = json!({"roomName": room, "id": id});
            let Some(asked) = client.ask_later("message", message).await else { break };
            under_way.insert(asked, (room, id));
            if n < UNDER_WAY {
                continue;
            }
            let Some((number, ack)) = client.next_ack().await else { break };
            let _being_killed = enough.send(());
            let (room, id) = under_way.remove(&number).unwrap();
            acknowledged.push((room, ack["offset"].as_u64().unwrap(), id));
        }
        while let Some((number, ack)) = client.next_ack().await {
            let (room, id) = under_way.remove(&number).unwrap();
            acknowledged.push((room, ack["offset"].as_u64().unwrap(), id));
        }
        acknowledged
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_message_is_told_in_order_whenever_the_server_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("roomcast.db");
    let mut receiver = Receiver::start().await;
    let mut count = 0_u32;
    receiver.answer(move |_| {
        count += 1;
        // Now and then it is killed while an answer is awaited.
        if count.is_multiple_of(997) { Reply::Hang } else { Reply::Status(200) }
    });
    let mut acknowledged = BTreeMap::<&str, BTreeMap<u64, String>>::new();
    for round in 0..ROUNDS {
        let server = start(&store, &receiver.url()).await;
        let (enough, mut acks) = tokio::sync::mpsc::unbounded_channel();
        let mut senders = Vec::new();
        for sender in 0..SENDERS {
            let name = format!("{round}-{sender}");
            let sending = send_until_the_end(&server, name, enough.clone()).await;
            senders.push(tokio::spawn(sending));
        }
        for _ in 0..MESSAGES / ROUNDS {
            acks.recv().await.unwrap();
        }
        server.kill().await;
        for sender in senders {
            for (room, offset, id) in sender.await.unwrap() {
                acknowledged.entry(room).or_default().insert(offset, id);
            }
        }
    }
    receiver.answer(|_| Reply::Status(200));
    let server = start(&store, &receiver.url()).await;
    let total = acknowledged.values().map(BTreeMap::len).sum::<usize>();
    assert!(total >= MESSAGES, "{total}");

    let mut missing = acknowledged
        .iter()
        .flat_map(|(room, messages)| {
            messages.iter().map(|(offset, id)| ((*room).to_owned(), *offset, id.clone()))
        })
        .collect::<HashSet<_>>();
    let (mut newest, mut lost) = (HashMap::<String, u64>::new(), 0);
    while !missing.is_empty() {
        let told = receiver.next().await;
        lost += usize::from(told.kind() == "node.lost");
        if told.kind() != "message.created" {
            continue;
        }
        let data = told.data();
        let (room, offset) = (data["room"].as_str().unwrap(), data["offset"].as_u64().unwrap());
        let newest = newest.entry(room.to_owned()).or_default();
        // At least once and in order: what is new follows what was told.
        assert!(offset <= *newest + 1, "{offset} of {room} comes after {newest}");
        *newest = offset.max(*newest);
        let id = data["id"].as_str().unwrap();
        missing.remove(&(room.to_owned(), offset, id.to_owned()));
    }
    assert!(lost >= ROUNDS - 1, "{lost} nodes were lost");
    assert_eq!(server.terminate().await, Some(0));
}
