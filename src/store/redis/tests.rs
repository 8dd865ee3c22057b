//! What happens when Redis goes away, comes back with less than it had, or is shared.

use std::sync::atomic::AtomicI64;

use super::*;
use crate::{
    audience::Except,
    store::{
        Append, Appended, Backend, DecodeError, Epoch, Location, Pending, Query, Store,
        room_channel,
        tests::{ALL, room, server::RedisServer, settings as embedded_settings, user},
    },
};

const PREFIX: &str = "test";

/// Some nodes on one server.
struct World {
    server: RedisServer,
    settings: Settings,
}

impl World {
    fn start() -> Self {
        let clock = Arc::new(AtomicI64::new(1_000_000));
        Self { server: RedisServer::start(), settings: embedded_settings(Location::Memory, &clock) }
    }

    fn node(&self) -> Store {
        self.tuned(|_| {})
    }

    fn tuned(&self, change: impl FnOnce(&mut Tuning)) -> Store {
        let mut tuning = Tuning { tick: Duration::from_millis(5), ..Tuning::default() };
        change(&mut tuning);
        let redis = Redis::start(self.settings.clone(), self.server.settings(PREFIX), tuning);
        Store { backend: Backend::Redis(Arc::new(redis)) }
    }

    fn entry(&self, id: &str) -> Entry {
        Entry {
            id: id.into(),
            event: "message".into(),
            json: "{}".into(),
            attachments: vec![],
            timestamp_ms: self.settings.clock.now_ms(),
        }
    }

    fn submit(&self, node: &Store, id: &str) -> Pending<Appended> {
        let append = Append { room: room("a"), entry: self.entry(id), except: Except::nobody() };
        node.append(append)
    }

    async fn append(&self, node: &Store, id: &str) -> Appended {
        self.submit(node, id).await.unwrap()
    }
}

/// Waits for a health that `is` as wanted.
async fn until(node: &Store, is: impl Fn(&Health) -> bool) -> Health {
    let waited = async {
        loop {
            let health = node.health();
            if is(&health) {
                return health;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.unwrap()
}

async fn until_working(node: &Store) {
    until(node, |health| *health == Health::Working).await;
}

async fn until_failing(node: &Store) -> String {
    match until(node, |health| matches!(health, Health::Failing { .. })).await {
        Health::Failing { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

async fn ids(node: &Store) -> Vec<String> {
    let page = node.read(&room("a"), ALL).await.unwrap();
    let in_order = page.items.iter().zip(page.position.oldest..);
    assert!(in_order.clone().all(|(item, offset)| item.offset == offset), "no gap");
    in_order.map(|(item, _)| item.entry.id.clone()).collect()
}

fn is_unavailable<T: fmt::Debug>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable(_)))
}

#[tokio::test]
async fn concurrent_writers_of_two_nodes_share_one_row_of_offsets() {
    let world = World::start();
    let (one, other) = (world.node(), world.node());
    let mut subscription = world.server.connection();
    let mut subscription = subscription.as_pubsub();
    subscription.subscribe(room_channel(PREFIX, &room("a"))).unwrap();
    let write = async |node: &Store, name: &str| {
        let pending: Vec<_> = (0..500).map(|n| world.submit(node, &format!("{name}{n}"))).collect();
        let mut offsets = Vec::new();
        for pending in pending {
            offsets.push(pending.await.unwrap().offset);
        }
        offsets
    };
    let (mine, yours) = tokio::join!(write(&one, "a"), write(&other, "b"));
    for offsets in [&mine, &yours] {
        assert!(offsets.is_sorted(), "a node's order is the log's order");
    }
    let mut all = [mine, yours].concat();
    all.sort_unstable();
    assert_eq!(all, (1..=1_000).collect::<Vec<_>>());
    let log = ids(&one).await;
    for name in ["a", "b"] {
        let sent = (0..500).map(|n| format!("{name}{n}"));
        assert!(log.iter().filter(|id| id.starts_with(name)).eq(&sent.collect::<Vec<_>>()));
    }
    // What is published is what is stored, in the same order.
    for (offset, id) in (1..).zip(log) {
        let message = subscription.get_message().unwrap();
        let committed = other.committed(room("a"), message.get_payload_bytes()).unwrap();
        assert_eq!((committed.offset, &committed.entry.id), (offset, &id));
    }
    assert_eq!(one.committed(room("a"), b"garbage").unwrap_err(), DecodeError);
}

#[tokio::test]
async fn a_node_starts_without_redis_and_goes_on_once_it_is_there() {
    let world = World::start();
    world.server.kill();
    let node = world.node();
    let reason = until_failing(&node).await;
    assert!(is_unavailable(&world.submit(&node, "1").await), "{reason}");
    assert!(is_unavailable(&node.position(&room("a")).await));
    assert!(is_unavailable(&node.queue_len(&user("ann")).await));
    world.server.start_again();
    until_working(&node).await;
    assert_eq!(world.append(&node, "2").await.offset, 1);
}

#[tokio::test]
async fn a_restart_that_loses_nothing_goes_on_with_the_same_epoch() {
    let world = World::start();
    let (one, other) = (world.node(), world.node());
    let before = world.append(&one, "1").await;
    world.append(&other, "2").await;
    one.enqueue(user("ann"), None, world.entry("q")).await.unwrap();
    world.server.command("SAVE");
    world.server.kill();
    for node in [&one, &other] {
        until_failing(node).await;
        assert!(is_unavailable(&world.submit(node, "lost").await));
        assert!(is_unavailable(&node.read(&room("a"), ALL).await));
    }
    world.server.start_again();
    // The scripts went with the old process.
    for node in [&one, &other] {
        until_working(node).await;
    }
    assert_eq!(world.append(&one, "3").await, Appended { offset: 3, epoch: before.epoch });
    assert_eq!(world.append(&other, "4").await, Appended { offset: 4, epoch: before.epoch });
    assert_eq!(ids(&other).await, ["1", "2", "3", "4"]);
    assert_eq!(other.queue_len(&user("ann")).await, Ok(1));
}

#[tokio::test]
async fn a_restart_that_loses_something_changes_every_epoch() {
    let world = World::start();
    let (one, other) = (world.node(), world.node());
    let before = world.append(&one, "1").await;
    let unwritten = one.position(&room("b")).await.unwrap().epoch;
    world.append(&other, "seen by both").await;
    world.server.command("SAVE");
    assert_eq!(world.append(&one, "lost").await, Appended { offset: 3, epoch: before.epoch });
    world.server.kill();
    // Both, so that neither mistakes the connection of before for a new one.
    for node in [&one, &other] {
        until_failing(node).await;
    }
    world.server.start_again();
    for node in [&one, &other] {
        until_working(node).await;
    }
    let after = world.append(&other, "new").await;
    assert_eq!(after.offset, 3);
    assert_ne!(after.epoch, before.epoch);
    assert_eq!(one.position(&room("a")).await.unwrap().epoch, after.epoch);
    assert_ne!(one.position(&room("b")).await.unwrap().epoch, unwritten);
    assert_eq!(ids(&one).await, ["1", "seen by both", "new"]);
    // Both have checked in, and that was the only change.
    assert_eq!(world.append(&one, "newer").await, Appended { offset: 4, epoch: after.epoch });
}

#[tokio::test]
async fn what_a_node_has_only_received_tells_it_of_a_loss_too() {
    let world = World::start();
    let (one, other) = (world.node(), world.node());
    let before = world.append(&one, "1").await;
    world.append(&other, "2").await;
    world.server.command("SAVE");
    let mut subscription = world.server.connection();
    let mut subscription = subscription.as_pubsub();
    subscription.subscribe(room_channel(PREFIX, &room("a"))).unwrap();
    world.append(&one, "lost").await;
    let message = subscription.get_message().unwrap();
    let committed = other.committed(room("a"), message.get_payload_bytes()).unwrap();
    assert_eq!((committed.offset, committed.epoch), (3, before.epoch));
    // The one who has written it ends together with Redis.
    one.close().await;
    world.server.kill();
    until_failing(&other).await;
    world.server.start_again();
    until_working(&other).await;
    assert_ne!(world.append(&other, "new").await.epoch, before.epoch);
}

#[tokio::test]
async fn an_emptied_redis_begins_anew_with_other_epochs() {
    let world = World::start();
    let (one, other) = (world.node(), world.node());
    let mut epochs: Vec<Epoch> = Vec::new();
    let mut places = Vec::new();
    for _ in 0..3 {
        let appended = world.append(&one, "1").await;
        assert_eq!(appended.offset, 1);
        assert_eq!(other.position(&room("a")).await.unwrap().epoch, appended.epoch);
        assert!(!epochs.contains(&appended.epoch));
        epochs.push(appended.epoch);
        places.push(other.enqueue(user("ann"), None, world.entry("q")).await.unwrap());
        world.server.command("FLUSHALL");
        assert_eq!(one.queue_len(&user("ann")).await, Ok(0));
        let emptied = other.position(&room("a")).await.unwrap();
        assert_eq!((emptied.head, emptied.oldest), (0, 1));
        assert!(!epochs.contains(&emptied.epoch));
    }
    assert!(places.is_sorted_by(|one, next| one < next), "no place is used again: {places:?}");
    assert_eq!(one.health(), Health::Working);
}

#[tokio::test]
async fn a_lost_connection_is_made_again() {
    let world = World::start();
    let node = world.node();
    let mut appended = 0;
    for n in 0..20 {
        world.server.command("CLIENT KILL TYPE normal");
        // Refused or not, by the time the answer comes it is told which; and none hangs.
        let pending: Vec<_> = (0..10).map(|m| world.submit(&node, &format!("{n}:{m}"))).collect();
        for pending in pending {
            appended += u64::from(pending.await.is_ok());
        }
        let read = async { while node.read(&room("a"), ALL).await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(20), read).await.unwrap();
    }
    until_working(&node).await;
    let last = world.append(&node, "last").await;
    assert!(last.offset > appended, "what was acknowledged is there");
    assert_eq!(ids(&node).await.len() as u64, last.offset);
}

#[tokio::test]
async fn what_is_not_answered_in_time_is_refused_and_the_rest_goes_on_in_order() {
    let world = World::start();
    let node = world.tuned(|tuning| tuning.deadline = Duration::from_millis(300));
    world.append(&node, "1").await;
    world.server.command("CLIENT PAUSE 1500 ALL");
    let begun = Instant::now();
    let pending: Vec<_> = (0..5).map(|n| world.submit(&node, &format!("late{n}"))).collect();
    let read = node.read(&room("a"), ALL).await;
    assert!(is_unavailable(&read), "{read:?}");
    for pending in pending {
        assert!(is_unavailable(&pending.await));
    }
    // Half a second is room for a slow machine; the pause is three times as long.
    assert!(begun.elapsed() < Duration::from_millis(800), "{:?}", begun.elapsed());
    let reason = until_failing(&node).await;
    assert!(reason.contains("did not answer in time"), "{reason}");
    until_working(&node).await;
    let next = world.append(&node, "next").await;
    // Nobody can tell whether the late ones were stored; if they were, they are in order.
    let log = ids(&node).await;
    assert_eq!(log.len() as u64, next.offset);
    let late: Vec<_> = log.iter().filter(|id| id.starts_with("late")).collect();
    assert!(late.is_sorted(), "{log:?}");
}

#[tokio::test]
async fn flushed_scripts_are_loaded_again_and_nobody_notices() {
    let world = World::start();
    let node = world.node();
    for n in 1..=3 {
        world.server.command("SCRIPT FLUSH");
        let pending: Vec<_> = (0..50).map(|m| world.submit(&node, &format!("{n}:{m}"))).collect();
        for pending in pending {
            pending.await.unwrap();
        }
        world.server.command("SCRIPT FLUSH");
        assert_eq!(ids(&node).await.len(), n * 50);
    }
}

#[tokio::test]
async fn what_redis_refuses_is_not_stored_and_health_says_so() {
    let world = World::start();
    let node = world.node();
    world.append(&node, "1").await;
    world.server.command("CONFIG SET maxmemory 1");
    let refused = world.submit(&node, "2").await;
    assert!(
        matches!(&refused, Err(StoreError::Unavailable(reason)) if reason.contains("maxmemory")),
        "{refused:?}"
    );
    assert!(until_failing(&node).await.contains("maxmemory"));
    assert_eq!(ids(&node).await, ["1"], "it can still be read");
    world.server.command("CONFIG SET maxmemory 0");
    until_working(&node).await;
    assert_eq!(world.append(&node, "3").await.offset, 2);
}

#[tokio::test]
async fn too_many_waiting_writes_are_refused_and_the_others_keep_their_order() {
    let world = World::start();
    let node = world.tuned(|tuning| tuning.limits = Limits { commands: 5, bytes: 50_000 });
    until_working(&node).await;
    // Nothing is taken before this task waits.
    let pending: Vec<_> = (0..8).map(|n| world.submit(&node, &n.to_string())).collect();
    let mut results = Vec::new();
    for pending in pending {
        results.push(pending.await.map(|appended| appended.offset).ok());
    }
    assert_eq!(results, [Some(1), Some(2), Some(3), Some(4), Some(5), None, None, None]);
    let large = Entry { json: "x".repeat(60_000).into(), ..world.entry("large") };
    let large = Append { room: room("a"), entry: large, except: Except::nobody() };
    assert!(is_unavailable(&node.append(large).await));
    assert_eq!(world.append(&node, "small").await.offset, 6);
    assert_eq!(node.stats().queued, 0);
}

#[tokio::test]
async fn closing_finishes_what_was_taken_in_and_refuses_the_rest() {
    let world = World::start();
    let node = world.node();
    let pending: Vec<_> = (0..100).map(|n| world.submit(&node, &n.to_string())).collect();
    node.close().await;
    for (n, pending) in (1..).zip(pending) {
        assert_eq!(pending.await.unwrap().offset, n);
    }
    assert!(is_unavailable(&world.submit(&node, "late").await));
    assert!(is_unavailable(&node.read(&room("a"), ALL).await));
    assert_eq!(node.health(), Health::Closed);
    node.close().await;
    assert_eq!(ids(&world.node()).await.len(), 100);
}

#[tokio::test]
async fn a_queue_is_claimed_by_one_at_a_time() {
    let world = World::start();
    let (one, other) = (world.node(), world.node());
    let (ann, long, short) = (user("ann"), Duration::from_mins(1), Duration::from_millis(1));
    assert_eq!(one.claim_queue(&ann, "one", long).await, Ok(true));
    assert_eq!(other.claim_queue(&ann, "other", long).await, Ok(false));
    assert_eq!(one.claim_queue(&ann, "one", long).await, Ok(true), "it has it already");
    assert_eq!(other.claim_queue(&user("bob"), "other", long).await, Ok(true));
    assert_eq!(other.renew_queue(&ann, "other", long).await, Ok(false));
    assert_eq!(other.release_queue(&ann, "other").await, Ok(false));
    assert_eq!(one.renew_queue(&ann, "one", short).await, Ok(true));
    let freed = async { while other.claim_queue(&ann, "other", long).await != Ok(true) {} };
    tokio::time::timeout(Duration::from_secs(20), freed).await.unwrap();
    assert_eq!(one.renew_queue(&ann, "one", long).await, Ok(false), "it is too late");
    assert_eq!(one.release_queue(&ann, "one").await, Ok(false));
    assert_eq!(other.release_queue(&ann, "other").await, Ok(true));
    assert_eq!(one.renew_queue(&ann, "one", long).await, Ok(false));
    assert_eq!(one.claim_queue(&ann, "one", long).await, Ok(true));
}

#[tokio::test]
async fn several_nodes_sweep_and_a_forgotten_room_is_forgotten_once() {
    let mut world = World::start();
    let now = Arc::new(AtomicI64::new(1_000_000));
    world.settings = embedded_settings(Location::Memory, &now);
    let nodes = [world.node(), world.node(), world.node()];
    let epoch = world.append(&nodes[0], "0").await.epoch;
    for n in 1..300 {
        world.append(&nodes[n % 3], &n.to_string()).await;
    }
    let sweep = async || {
        now.fetch_add(100_000, std::sync::atomic::Ordering::SeqCst);
        let (a, b, c) = tokio::join!(nodes[0].sweep(), nodes[1].sweep(), nodes[2].sweep());
        assert_eq!((a, b, c), (Ok(()), Ok(()), Ok(())));
    };
    sweep().await;
    assert_eq!(world.server.rows(PREFIX, "messages"), 0);
    let emptied = nodes[1].position(&room("a")).await.unwrap();
    assert_eq!((emptied.head, emptied.oldest, emptied.epoch), (300, 301, epoch));
    sweep().await;
    assert_eq!(world.server.rows(PREFIX, "rooms"), 0);
    let forgotten = world.server.command("HVALS test:log:forgotten");
    assert_eq!(forgotten, Value::Array(vec![Value::BulkString(b"1".to_vec())]));
    // Nothing is left but what no number of rooms makes grow.
    let Value::Array(mut keys) = world.server.command("KEYS test:*") else { panic!("no array") };
    keys.retain(|key| *key != Value::BulkString(b"test:ping".to_vec()));
    assert_eq!(keys.len(), 2, "{keys:?}");
}

#[tokio::test]
async fn the_nodes_sweep_by_themselves() {
    let mut world = World::start();
    let now = Arc::new(AtomicI64::new(1_000_000));
    world.settings = embedded_settings(Location::Memory, &now);
    let often = |tuning: &mut Tuning| tuning.sweep_every = Duration::from_millis(10);
    let nodes = [world.tuned(often), world.tuned(often)];
    world.append(&nodes[0], "1").await;
    nodes[0].enqueue(user("ann"), Some("eve".into()), world.entry("q")).await.unwrap();
    assert_eq!(nodes[1].queue_len(&user("ann")).await, Ok(1));
    now.fetch_add(200_000, std::sync::atomic::Ordering::SeqCst);
    let swept = async {
        while world.server.rows(PREFIX, "messages") + world.server.rows(PREFIX, "queue") > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), swept).await.unwrap();
}

#[tokio::test]
async fn trimming_takes_ids_and_receipts_along() {
    let mut world = World::start();
    world.settings.history_size = 8;
    let node = world.node();
    for n in 0..100 {
        world.append(&node, &format!("m{}", n % 50)).await;
        let now = world.settings.clock.now_ms();
        let recorded = node.record_receipt(room("a"), format!("m{}", n % 50), user("ann"), now);
        assert_eq!(recorded.await, Ok(true));
    }
    let left = world.server.rows(PREFIX, "messages");
    assert!((8..=9).contains(&left), "{left}");
    assert_eq!(world.server.rows(PREFIX, "receipts"), left);
    let ids = world.server.command("HLEN test:ids:/\u{1f}a");
    assert_eq!(ids, Value::Int(left.cast_signed()));
    let page = node.read(&room("a"), ALL).await.unwrap();
    assert!(page.items.iter().all(|item| item.receipts.len() == 1));
    let first = node.read(&room("a"), Query { limit: 1, ..ALL }).await.unwrap();
    assert_eq!((first.items[0].offset, first.complete), (93, false));
}

#[tokio::test]
async fn no_password_is_shown() {
    let client = Client::open("redis://me:hunter2@127.0.0.1:1/").unwrap();
    let settings = RedisSettings { client, prefix: PREFIX.into(), node: "n".into() };
    assert!(!format!("{settings:?}").contains("hunter2"));
    let clock = Arc::new(AtomicI64::new(0));
    let store = Store::redis(embedded_settings(Location::Memory, &clock), settings);
    assert!(store.is_shared());
    assert!(!format!("{store:?}").contains("hunter2"));
    let reason = until(
        &store,
        |health| matches!(health, Health::Failing { reason, .. } if !reason.contains("not connected yet")),
    );
    assert!(!format!("{:?}", reason.await).contains("hunter2"));
}
