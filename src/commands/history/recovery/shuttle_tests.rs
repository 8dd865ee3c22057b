//! What the members of a room get while messages are stored and delivered and clients come and go, whatever the
//! order in which tasks run.

use shuttle::{
    future::{JoinHandle, spawn},
    rand::{Rng, thread_rng},
};

use super::*;
use crate::{
    broker::fanout::Fanout,
    config::Config,
    hub::{EventStyle, Namespace, Registry, Session, sender::shuttle_tests::connect},
    protocol::{audience::Except, client_id::ClientId, payload::Payload},
    store::{Committed, Entry, Stored},
    sync::{Mutex, check},
    telemetry::metrics::Metrics,
    transport::{
        Wire,
        shuttle_tests::{Line, join, wire},
    },
};

/// How many messages are sent.
const MESSAGES: u64 = 3;

/// The log of the room: how many messages there are.
#[derive(Default)]
struct Count(Mutex<u64>);

impl Count {
    fn extent(&self) -> Extent {
        Extent { head: position(*self.0.lock()), oldest: 1 }
    }
}

fn position(offset: u64) -> Position {
    Position { offset, epoch: "0000000000000001".parse().unwrap() }
}

fn message() -> Entry {
    Entry {
        id: String::new(),
        event: "m".into(),
        json: r#"{"n":0}"#.into(),
        attachments: Vec::new(),
        timestamp_ms: 0,
    }
}

impl Log for Count {
    async fn extent(&self, _: &RoomKey) -> Result<Extent, StoreError> {
        Ok(self.extent())
    }

    async fn read(&self, _: &RoomKey, query: Query) -> Result<Page, StoreError> {
        let extent = self.extent();
        let stored = |offset| Stored {
            offset,
            entry: message(),
            except: Except::default(),
            receipts: Vec::new(),
        };
        let items = (query.after + 1..=extent.head.offset).map(stored).collect();
        Ok(Page { items, extent, complete: true })
    }
}

/// A client, and the way to its peer.
#[derive(Clone)]
struct Person {
    client: Arc<Client>,
    line: Line,
    log: Arc<Count>,
    room: RoomName,
}

impl Person {
    /// A client that has just connected, and the library's task that writes the marker.
    fn new(
        wire: &Wire,
        namespace: &Arc<Namespace>,
        log: &Arc<Count>,
        room: &RoomName,
    ) -> (Self, JoinHandle<()>) {
        let line = Line::new(wire);
        let (sender, library) = connect(&line);
        let session = Session::anonymous(&Config::default());
        let (id, namespace) = (ClientId::make(), namespace.clone());
        let client = Client::new(id, namespace, "c".into(), 4, None, sender, session);
        (Self { client: Arc::new(client), line, log: log.clone(), room: room.clone() }, library)
    }

    /// Joins, and is told where it stands. A client that says what it `has` is replayed the rest.
    async fn join(&self, has: Option<u64>) {
        let recover = has.map(|offset| Recovery { offset, epoch: None });
        let limit = if thread_rng().r#gen() { 1_000_000 } else { 0 };
        let held = Held::begin(&self.client, &self.room).unwrap();
        let enter = |state: &mut RoomState, _: &Arc<Room>, standing: &JoinPosition| {
            if !state.contains(&self.client.id) {
                state.insert(self.client.clone(), EventStyle::Dashed);
            }
            let offset = standing.position.unwrap().offset;
            self.client.sender.acknowledge(1, &Payload::of(&offset));
        };
        enter_from(&*self.log, &held, recover.as_ref(), limit, enter).await.unwrap();
    }

    fn leave(&self) {
        let namespace = &self.client.namespace;
        let room = namespace.room(self.room.as_str()).unwrap();
        room.lock().remove(&self.client);
        namespace.retire(&room);
    }

    /// Checks what came: from where it entered, each message once and in order, to the last one. One that `asks` for
    /// all of them may get the first one again, and then all that follow.
    async fn judge(&self, asks: bool) {
        let texts = self.line.read_all().await;
        let number = |text: &str| text.trim_end_matches(['}', ']']).parse::<u64>().unwrap();
        let mut has = None;
        for text in &texts {
            if let Some((_, offset)) = text.split_once(r#""offset":"#) {
                let is_replay = asks && number(offset) == 1;
                let before = if is_replay { Some(0) } else { has };
                has = before.map(|before| before + 1);
                assert_eq!(has, Some(number(offset)), "of {texts:?}");
            } else if let Some(offset) = text.strip_prefix("431[") {
                assert!(has.is_none_or(|has| has == number(offset)), "of {texts:?}");
                has = Some(number(offset));
            }
        }
        assert_eq!(has, Some(MESSAGES), "of {texts:?}");
    }
}

fn registry() -> (Arc<Registry>, Arc<Namespace>) {
    let registry = Arc::new(Registry::new(&["/".to_owned()], 0));
    let namespace = registry.namespaces()[0].clone();
    (registry, namespace)
}

#[test]
fn each_member_gets_each_message_after_its_position_once_and_in_order() {
    check(|| async {
        let (wire, log) = (wire(usize::MAX), Arc::<Count>::default());
        let (registry, namespace) = registry();
        let metrics = Arc::new(Metrics::default());
        let fanout = Fanout::new(registry, metrics, wire.clone());
        let name = RoomName::parse("r").unwrap();
        let newcomers = [(); 3].map(|()| Person::new(&wire, &namespace, &log, &name));
        let people = newcomers.each_ref().map(|(person, _)| person.clone());
        let libraries = newcomers.map(|(_, library)| library);
        let writer = {
            let (log, room) = (log.clone(), namespace.key(&name));
            spawn(async move {
                for offset in 1..=MESSAGES {
                    *log.0.lock() = offset;
                    let (position, entry) = (position(offset), message().into());
                    let (room, except) = (room.clone(), Except::default());
                    fanout.committed(&Committed { room, position, entry, except });
                }
            })
        };
        let [joins_twice, recovers, returns] = people.clone();
        let joins = [
            spawn(async move {
                joins_twice.join(None).await;
                joins_twice.join(None).await;
            }),
            spawn(async move {
                recovers.join(Some(0)).await;
                recovers.join(Some(0)).await;
            }),
            spawn(async move {
                returns.join(None).await;
                returns.leave();
                returns.join(Some(0)).await;
            }),
        ];
        join(joins.into_iter().chain(libraries).chain([writer])).await;
        for (person, asks) in people.into_iter().zip([false, true, true]) {
            person.judge(asks).await;
            person.leave();
        }
        assert_eq!(namespace.room_count(), 0);
    });
}

#[test]
fn nobody_joins_a_room_that_has_ended() {
    check(|| async {
        let (wire, log) = (wire(usize::MAX), Arc::default());
        let (_registry, namespace) = registry();
        let name = RoomName::parse("r").unwrap();
        let newcomers = [(); 2].map(|()| Person::new(&wire, &namespace, &log, &name));
        let [leaves, stays] = newcomers.each_ref().map(|(person, _)| person.clone());
        join(newcomers.map(|(_, library)| library)).await;
        leaves.join(None).await;
        let tasks = [
            spawn({
                let leaves = leaves.clone();
                async move { leaves.leave() }
            }),
            spawn({
                let stays = stays.clone();
                async move { stays.join(None).await }
            }),
        ];
        join(tasks).await;
        let room = namespace.room("r").unwrap();
        assert!(room.lock().contains(&stays.client.id));
        stays.leave();
        for person in [leaves, stays] {
            person.line.read_all().await;
        }
        assert_eq!(namespace.room_count(), 0);
    });
}
