//! Several instances as one store: what is where, and what is whose while one is away.

use std::collections::HashSet;

use super::*;
use crate::store::{
    Announcement, Done, Fact, FailedPlace, Fate, Once, RoomKey, Settled, Stale, Stream, Webhook,
    tests::settings as settings_at,
};

/// Some servers, of which nodes list some.
pub(super) struct Servers {
    pub all: Vec<RedisServer>,
    settings: Settings,
    nodes: AtomicU32,
}

impl Servers {
    pub fn start(count: usize) -> Self {
        let clock = Arc::new(AtomicI64::new(1_000_000));
        let all = (0..count).map(|_| RedisServer::start()).collect();
        Self { all, settings: settings_at(Location::Memory, &clock), nodes: AtomicU32::new(0) }
    }

    /// A node whose list has these servers.
    pub fn node(&self, list: &[usize]) -> Store {
        let tuning = Tuning { tick: Duration::from_millis(5), ..Tuning::default() };
        let node = format!("node-{}", self.nodes.fetch_add(1, SeqCst));
        let mut redis = RedisSettings { node, ..self.all[list[0]].settings(PREFIX) };
        redis.primaries = list.iter().map(|at| self.all[*at].client().into()).collect();
        Store { backend: Backend::Redis(Arc::new(Shards::start(&self.settings, &redis, tuning))) }
    }

    pub fn append(&self, room: &RoomKey, id: &str) -> Append {
        let entry = Entry {
            id: id.into(),
            event: "message".into(),
            json: "{}".into(),
            attachments: vec![],
            timestamp_ms: self.settings.clock.now_ms(),
        };
        let except = Except::nobody();
        Append { room: room.clone(), entry, except, sender: None, webhook: None }
    }

    pub async fn fill(&self, node: &Store, rooms: &[RoomKey], id: &str) -> Vec<Position> {
        let mut positions = Vec::new();
        for room in rooms {
            positions.push(node.append(self.append(room, id)).await.unwrap());
        }
        positions
    }

    /// Waits until each of these servers has only the rooms that are its own.
    pub async fn until_tidy(&self, list: &[usize], rooms: &[RoomKey]) {
        for (place, server) in list.iter().map(|at| &self.all[*at]).enumerate() {
            let own = rooms.iter().filter(|room| room.instance(list.len()) == place).count();
            let waited = async {
                while layout(server, "layout") == Value::Nil
                    || layout(server, "tidy") != layout(server, "layout")
                {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), waited).await.unwrap();
            assert_eq!(server.rows(PREFIX, "rooms"), own as u64);
        }
    }
}

/// What a server knows of the list.
pub(super) fn layout(server: &RedisServer, field: &str) -> Value {
    server.command(&format!("HGET {PREFIX}:log {field}"))
}

pub(super) fn rooms(count: usize) -> Vec<RoomKey> {
    (0..count).map(|n| room(&format!("r{n}"))).collect()
}

/// The first of these rooms that is at this place of so many.
fn at(place: usize, count: usize) -> RoomKey {
    rooms(100).into_iter().find(|room| room.instance(count) == place).unwrap()
}

#[tokio::test]
async fn each_room_is_on_one_instance_and_what_spans_rooms_on_the_first() {
    let servers = Servers::start(3);
    let rooms = rooms(60);
    let node = servers.node(&[0, 1, 2]);
    servers.fill(&node, &rooms, "1").await;
    node.enqueue(user("ann"), None, servers.append(&rooms[0], "q").entry, None).await.unwrap();
    for place in 0..3 {
        let own = rooms.iter().filter(|room| room.instance(3) == place).count() as u64;
        assert!(own > 10, "they are spread: {own}");
        assert_eq!(servers.all[place].rows(PREFIX, "rooms"), own);
        assert_eq!(servers.all[place].rows(PREFIX, "queue"), u64::from(place == 0));
    }
    until(&node, |_| node.stats().rooms == 60).await;
    assert_eq!(node.stats().entries, 60);
    let other = servers.node(&[0, 1, 2]);
    for room in &rooms {
        assert_eq!(other.extent(room).await.unwrap().head.offset, 1);
    }
}

#[tokio::test]
async fn an_instance_that_is_away_makes_its_own_rooms_unavailable_and_no_other() {
    let servers = Servers::start(3);
    let node = servers.node(&[0, 1, 2]);
    let rooms = rooms(30);
    let before = servers.fill(&node, &rooms, "1").await;
    servers.all[1].command("SAVE");
    servers.all[1].kill();
    let failing = until(&node, |_| !node.failing_instances().is_empty());
    assert_eq!(failing.await, Health::Working, "the first one is there");
    assert_eq!(node.failing_instances()[0].0, 2);
    for (room, before) in rooms.iter().zip(&before) {
        let appended = node.append(servers.append(room, "2")).await;
        if room.instance(3) == 1 {
            assert!(is_unavailable(&appended), "{appended:?}");
            assert!(is_unavailable(&node.read(room, ALL).await));
        } else {
            assert_eq!(appended, Ok(before.at(2)));
        }
    }
    node.enqueue(user("ann"), None, servers.append(&rooms[0], "q").entry, None).await.unwrap();
    servers.all[1].start_again();
    until(&node, |_| node.failing_instances().is_empty()).await;
    for (room, before) in rooms.iter().zip(&before) {
        let offset = if room.instance(3) == 1 { 2 } else { 3 };
        assert_eq!(node.append(servers.append(room, "3")).await, Ok(before.at(offset)));
    }
}

#[tokio::test]
async fn an_instance_that_lost_something_gives_only_its_own_rooms_new_epochs() {
    let servers = Servers::start(2);
    let node = servers.node(&[0, 1]);
    let rooms = rooms(20);
    let before = servers.fill(&node, &rooms, "1").await;
    // Nothing was saved.
    servers.all[1].kill();
    until(&node, |_| !node.failing_instances().is_empty()).await;
    servers.all[1].start_again();
    until(&node, |_| node.failing_instances().is_empty()).await;
    for (room, before) in rooms.iter().zip(&before) {
        let after = node.append(servers.append(room, "2")).await.unwrap();
        if room.instance(2) == 1 {
            assert_eq!(after.offset, 1);
            assert_ne!(after.epoch, before.epoch);
        } else {
            assert_eq!(after, before.at(2));
        }
    }
}

#[tokio::test]
async fn an_emptied_first_instance_is_told_the_list_again() {
    let servers = Servers::start(2);
    let node = servers.node(&[0, 1]);
    let rooms = rooms(20);
    let before = servers.fill(&node, &rooms, "1").await;
    servers.all[0].command("FLUSHALL");
    let layout = || servers.all[0].command(&format!("HGET {PREFIX}:log layout"));
    until(&node, |_| layout() != Value::Nil).await;
    assert_eq!(layout(), servers.all[1].command(&format!("HGET {PREFIX}:log layout")));
    until_working(&node).await;
    until(&node, |_| node.failing_instances().is_empty()).await;
    for (room, before) in rooms.iter().zip(&before) {
        let after = node.append(servers.append(room, "2")).await.unwrap();
        assert_eq!(after == before.at(2), room.instance(2) == 1, "{room:?}");
    }
}

#[tokio::test]
async fn a_history_that_begins_in_an_emptied_instance_has_one_epoch() {
    let servers = Servers::start(1);
    let node = servers.node(&[0]);
    let room = at(0, 1);
    let before = node.append(servers.append(&room, "1")).await.unwrap();
    servers.all[0].command("FLUSHALL");
    let first = node.append(servers.append(&room, "2")).await.unwrap();
    assert_eq!((first.offset, first.epoch == before.epoch), (1, false));
    assert_eq!(node.append(servers.append(&room, "3")).await, Ok(first.at(2)));
    assert_eq!(node.extent(&room).await.unwrap().head, first.at(2));
}

#[tokio::test]
async fn a_backends_key_counts_for_the_rooms_of_all_instances() {
    let servers = Servers::start(3);
    let (node, other) = (servers.node(&[0, 1, 2]), servers.node(&[0, 1, 2]));
    let once = |key: u8, content: u8| Once {
        key: [key; 16],
        content: [content; 16],
        sender: None,
        answer: "the answer".into(),
    };
    for (key, (from, to)) in (0..).zip([(0, 1), (1, 0), (1, 2), (2, 2)]) {
        let (first, second) =
            (at(from, 3), rooms(100).into_iter().rfind(|it| it.instance(3) == to));
        let append = |node: &Store, room: &RoomKey, content| {
            node.append_once(servers.append(room, "m"), once(key, content))
        };
        let Done::Now(position) = append(&node, &first, 1).await.unwrap() else {
            panic!("it is new")
        };
        for node in [&node, &other] {
            let again = append(node, &first, 1).await.unwrap();
            assert!(matches!(again, Done::Before(before) if before.number == position.offset));
            let reused = append(node, &second.clone().unwrap(), 2).await;
            assert_eq!(reused, Err(StoreError::KeyReused), "{from} {to}");
        }
        let claimed = node.claim(once(key, 2), Duration::from_secs(9)).await;
        assert_eq!(claimed, Err(StoreError::KeyReused));
    }
}

pub(super) async fn stale_rooms(node: &Store) -> Vec<Fact> {
    let (mut stale, mut cursor) = (Vec::new(), "0".to_owned());
    loop {
        let (next, facts) = node.stale_facts(Stale::Rooms, &cursor).await.unwrap();
        stale.extend(facts);
        if next == "0" {
            return stale;
        }
        cursor = next;
    }
}

#[tokio::test]
async fn webhooks_of_rooms_are_where_the_rooms_are_and_one_node_delivers_all() {
    let servers = Servers::start(2);
    let (node, other) = (servers.node(&[0, 1]), servers.node(&[0, 1]));
    let minute = Duration::from_mins(1);
    let webhook = |id: &str, stream| Webhook {
        id: id.into(),
        stream,
        at_ms: servers.settings.clock.now_ms(),
        json: "{}".into(),
    };
    let rooms = [at(0, 2), at(1, 2)];
    for room in &rooms {
        let told = webhook(&format!("m {}", room.room), Stream::of_room(room));
        let append = Append { webhook: Some(told), ..servers.append(room, "m") };
        node.append(append).await.unwrap();
        let webhook = Some(webhook(&format!("joined {}", room.room), Stream::of_room(room)));
        let fact = Some((Fact::Room(room.clone()), true));
        node.announce(Announcement { webhook, fact, sender: None, room: Some(room.clone()) });
    }
    assert_eq!(node.claim_webhooks(minute).await, Ok(true));
    assert_eq!(other.claim_webhooks(minute).await, Ok(false));
    let mut streams = HashSet::new();
    while streams.len() < 2 {
        streams.extend(node.changed_streams().await);
    }
    assert_eq!(streams, node.webhook_streams().await.unwrap());
    for room in &rooms {
        let is_its = |stream: &&Stream| stream.0 == Stream::of_room(room).0;
        let stream = *streams.iter().find(is_its).unwrap();
        assert_eq!(stream.may_be_away(), room.instance(2) == 1);
        let page = node.webhooks(stream, 10, usize::MAX).await.unwrap();
        let ids = page.iter().map(|webhook| webhook.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids, [format!("m {}", room.room), format!("joined {}", room.room)]);
        let settled = Settled {
            delivered: vec![(page[0].seq, ids[0].clone())],
            failed: Some((page[1].seq, ids[1].clone(), "no".into())),
            ..Settled::of(stream)
        };
        assert_eq!(other.settle_webhooks(settled.clone()).await, Ok(0), "it has no claim");
        assert_eq!(node.settle_webhooks(settled).await, Ok(2));
    }
    // Nobody is in the rooms any more.
    assert_eq!(stale_rooms(&other).await, rooms.clone().map(Fact::Room));
    assert_eq!(other.failed_webhook_count().await, Ok(2));
    let first = other.failed_webhooks(FailedPlace::default(), 1, usize::MAX).await.unwrap();
    let second = other.failed_webhooks(first[0].place, 10, usize::MAX).await.unwrap();
    let failed = [first, second].concat();
    let ids = rooms.clone().map(|room| format!("joined {}", room.room));
    assert_eq!(failed.iter().map(|failed| failed.webhook.id.clone()).collect::<Vec<_>>(), ids);
    let last = failed[1].place;
    assert_eq!(last.to_string().parse(), Ok(last));
    assert_eq!(other.failed_webhook_ids(last, 10).await, Ok(vec![]));
    let both = failed.into_iter().map(|failed| (failed.place, failed.webhook.id)).collect();
    assert_eq!(other.decide_webhooks(both, Fate::Retried).await, Ok(2));
    assert_eq!(other.failed_webhook_count().await, Ok(0));
    until(&other, |_| other.stats().webhooks == 2).await;
    // The other node takes over, on all instances.
    assert_eq!(node.release_webhooks().await, Ok(true));
    assert_eq!(other.claim_webhooks(minute).await, Ok(true));
    let mut streams = HashSet::new();
    while streams.len() < 2 {
        streams.extend(other.changed_streams().await);
    }
}

#[tokio::test]
async fn webhooks_of_an_instance_that_was_away_are_found_when_it_is_back() {
    let servers = Servers::start(2);
    let node = servers.node(&[0, 1]);
    let room = at(1, 2);
    let stream = Stream::of_room(&room);
    let webhook = Webhook { id: "w".into(), stream, at_ms: 0, json: "{}".into() };
    node.append(Append { webhook: Some(webhook), ..servers.append(&room, "m") }).await.unwrap();
    servers.all[1].command("SAVE");
    servers.all[1].kill();
    until(&node, |_| !node.failing_instances().is_empty()).await;
    assert_eq!(node.claim_webhooks(Duration::from_mins(1)).await, Ok(true));
    assert_eq!(node.webhook_streams().await, Ok(HashSet::new()));
    servers.all[1].start_again();
    until(&node, |_| node.failing_instances().is_empty()).await;
    assert_eq!(node.claim_webhooks(Duration::from_mins(1)).await, Ok(true));
    let streams = node.changed_streams().await;
    assert_eq!(streams.iter().map(|stream| stream.0).collect::<Vec<_>>(), [stream.0]);
}
