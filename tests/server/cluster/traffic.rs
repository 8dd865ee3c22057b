//! Clients that write and read all the time, and what they must have been told in the end.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{assert_refused, eventually, offset_of};
use crate::support::{TestClient, TestServer};

/// The id of each room's last message.
const LAST: &str = "last";

/// The histories of a room that a reader got, one after the other: the ids of their messages, from the first on.
type Histories = Vec<Vec<String>>;

/// What was acknowledged to a writer: rooms, offsets and ids.
type Acknowledged = Vec<(String, u64, String)>;

/// Clients of all nodes that write to rooms of one group each, and a reader on each node of all rooms.
pub(super) struct Traffic {
    rooms: Vec<String>,
    stop: Arc<AtomicBool>,
    /// How many messages were acknowledged, by the group.
    counts: Vec<Arc<AtomicUsize>>,
    /// The rooms in which something was refused.
    refused: Arc<Mutex<BTreeSet<String>>>,
    writers: Vec<JoinHandle<Acknowledged>>,
    readers: Vec<JoinHandle<BTreeMap<String, Histories>>>,
}

impl Traffic {
    /// The rooms of a group are where they fail together.
    pub(super) async fn begin(nodes: &[TestServer], groups: &[Vec<String>]) -> Self {
        let mut traffic = Self {
            rooms: groups.concat(),
            stop: Arc::default(),
            counts: groups.iter().map(|_| Arc::default()).collect(),
            refused: Arc::default(),
            writers: Vec::new(),
            readers: Vec::new(),
        };
        for node in nodes {
            let mut reader = node.client().await;
            for room in &traffic.rooms {
                reader.join(room).await;
            }
            reader.forget().await;
            traffic.readers.push(tokio::spawn(read(reader, traffic.rooms.clone())));
        }
        for (n, node) in nodes.iter().enumerate() {
            for (group, rooms) in groups.iter().enumerate() {
                let writer = Writer {
                    name: format!("{n}-{group}"),
                    rooms: rooms.clone(),
                    stop: traffic.stop.clone(),
                    count: traffic.counts[group].clone(),
                    refused: traffic.refused.clone(),
                };
                traffic.writers.push(tokio::spawn(writer.write(node.client().await)));
            }
        }
        traffic
    }

    /// Waits until so many more messages to rooms of each of these groups are acknowledged.
    pub(super) async fn flows(&self, groups: impl IntoIterator<Item = usize>, more: usize) {
        for group in groups {
            let count = &self.counts[group];
            let wanted = count.load(Relaxed) + more;
            eventually("messages are acknowledged", async || {
                tokio::task::yield_now().await;
                count.load(Relaxed) >= wanted
            })
            .await;
        }
    }

    /// Ends it: the readers agree, and have what was acknowledged, where it was acknowledged, once. Returns how many
    /// histories each room has had, and the rooms in which something was refused.
    pub(super) async fn end(
        self,
        node: &TestServer,
    ) -> (BTreeMap<String, usize>, BTreeSet<String>) {
        self.stop.store(true, Relaxed);
        let mut acknowledged = Vec::new();
        for writer in self.writers {
            acknowledged.extend(writer.await.unwrap());
        }
        let mut last = node.client().await;
        for room in &self.rooms {
            let ack = last.ask("message", json!({"roomName": room, "id": LAST})).await;
            assert_eq!(ack["success"], true, "{ack}");
        }
        let mut read = Vec::new();
        for reader in self.readers {
            read.push(reader.await.unwrap());
        }
        let first = &read[0];
        for (room, histories) in first {
            for other in &read[1..] {
                // What was lost before it was delivered everywhere was lost with its epoch.
                assert_eq!(other[room].last(), histories.last(), "{room}");
            }
            for history in histories {
                let distinct = history.iter().collect::<HashSet<_>>();
                assert_eq!(distinct.len(), history.len(), "{room}: a message came twice");
            }
        }
        for (room, offset, id) in &acknowledged {
            let at = usize::try_from(*offset).unwrap() - 1;
            let has = |read: &BTreeMap<String, Histories>| {
                read[room].iter().any(|history| history.get(at) == Some(id))
            };
            let is_there = read.iter().all(has);
            assert!(
                is_there || first[room].len() > 1,
                "{id} was acknowledged at {offset} of {room}, whose readers had {:?} histories",
                read.iter().map(|read| read[room].len()).collect::<Vec<_>>()
            );
        }
        let histories = first.iter().map(|(room, histories)| (room.clone(), histories.len()));
        let histories = histories.collect();
        let refused = std::mem::take(&mut *self.refused.lock());
        (histories, refused)
    }
}

struct Writer {
    name: String,
    rooms: Vec<String>,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    refused: Arc<Mutex<BTreeSet<String>>>,
}

impl Writer {
    async fn write(self, mut client: TestClient) -> Acknowledged {
        let mut acknowledged = Vec::new();
        for (n, room) in self.rooms.iter().cycle().enumerate() {
            if self.stop.load(Relaxed) {
                break;
            }
            let id = format!("{}-{n}", self.name);
            let ack = client.ask("message", json!({"roomName": room, "id": id})).await;
            if ack["success"] == true {
                acknowledged.push((room.clone(), offset_of(&ack), id));
                self.count.fetch_add(1, Relaxed);
            } else {
                assert_refused(&ack, "unavailable");
                client.drop_events("error");
                self.refused.lock().insert(room.clone());
            }
        }
        acknowledged
    }
}

/// Reads until the last message of every room has come. Each history has all of its messages in order.
async fn read(mut reader: TestClient, rooms: Vec<String>) -> BTreeMap<String, Histories> {
    let mut all = rooms.iter().map(|room| (room.clone(), vec![Vec::new()])).collect();
    let mut open = rooms.len();
    while open > 0 {
        let message = reader.next("message-reply").await;
        open -= usize::from(take(&mut all, &message));
    }
    all
}

/// Takes a message; whether it is the room's last one.
fn take(all: &mut BTreeMap<String, Histories>, message: &Value) -> bool {
    let (offset, id) = (offset_of(message), message["id"].as_str().unwrap());
    let histories = all.get_mut(message["roomName"].as_str().unwrap()).unwrap();
    if offset == 1 && !histories.last().unwrap().is_empty() {
        histories.push(Vec::new());
    }
    let history = histories.last_mut().unwrap();
    history.push(id.to_owned());
    assert_eq!(offset, history.len() as u64, "a gap, or one twice: {message}");
    id == LAST
}
