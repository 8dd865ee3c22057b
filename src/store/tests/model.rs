//! The store compared with a model of plain vectors, under random histories.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::protocol::epoch::Epoch;

const SIZE: u64 = 5;
const TTL_MS: i64 = 100_000;
const ROOMS: usize = 5;
const MAX_ROOMS: usize = 3;
const MAX_ROOMS_PER_SENDER: usize = 2;
const SENDER_LIMIT: usize = 3;

#[derive(Debug, Clone)]
enum Op {
    Append { room: usize, id: u8, from: Option<u8> },
    Receipt { room: usize, id: u8, user: u8 },
    Enqueue { user: u8, sender: Option<u8> },
    Confirm { user: u8, nth: usize },
    Advance { seconds: i64 },
    Sweep,
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..ROOMS, 0..4u8, proptest::option::of(0..2u8))
            .prop_map(|(room, id, from)| Op::Append { room, id, from }),
        3 => (0..ROOMS, 0..4u8, 0..3u8).prop_map(|(room, id, user)| Op::Receipt { room, id, user }),
        3 => (0..2u8, proptest::option::of(0..2u8)).prop_map(|(user, sender)| Op::Enqueue { user, sender }),
        2 => (0..2u8, 0..4usize).prop_map(|(user, nth)| Op::Confirm { user, nth }),
        2 => (0..80i64).prop_map(|seconds| Op::Advance { seconds }),
        2 => Just(Op::Sweep),
        1 => Just(Op::Restart),
    ]
}

#[derive(Default)]
struct ModelRoom {
    head: u64,
    epoch: Option<Epoch>,
    /// The newest `SIZE` messages: offset, id, time, receipts.
    items: Vec<(u64, String, i64, Vec<Receipt>)>,
    /// When a sweep found it empty.
    emptied_at: Option<i64>,
    from: Option<u8>,
    used: i64,
}

#[derive(Default)]
struct Model {
    rooms: BTreeMap<usize, ModelRoom>,
    queue: Vec<(u64, UserId, Option<u8>, i64)>,
    forgotten: BTreeMap<usize, Epoch>,
}

impl Model {
    fn sweep(&mut self, now: i64) {
        let expired = now - TTL_MS;
        for room in self.rooms.values_mut().filter(|room| room.emptied_at.is_none()) {
            if room.items.iter().all(|item| item.2 <= expired) {
                room.items.clear();
                // The sweep that empties a room does not forget it.
                room.emptied_at = Some(now + 1);
                room.used = 0;
            }
        }
        let forgotten = &mut self.forgotten;
        self.rooms.retain(|name, room| {
            let gone = room.emptied_at.is_some_and(|at| at <= expired);
            if gone && let Some(epoch) = room.epoch {
                forgotten.insert(*name, epoch);
            }
            if let Some(at) = &mut room.emptied_at
                && *at == now + 1
            {
                *at = now;
            }
            !gone
        });
        self.queue.retain(|item| item.3 > expired);
    }

    /// Removes the room that made way: a least recently used one; any of them if several are equally old.
    async fn evict(&mut self, world: &World, of: impl Fn(&ModelRoom) -> bool) {
        let candidates = || self.rooms.iter().filter(|(_, room)| of(room));
        let oldest = candidates().map(|(_, room)| room.used).min().unwrap();
        let mut gone = None;
        for (name, known) in candidates().filter(|(_, room)| room.used == oldest) {
            let head = world.store.extent(&room(&name.to_string())).await.unwrap().head;
            if head.offset == 0 {
                assert_ne!(Some(head.epoch), known.epoch);
                gone = Some(*name);
            }
        }
        let gone = gone.expect("none of the least recently used rooms was forgotten");
        if let Some(epoch) = self.rooms.remove(&gone).and_then(|room| room.epoch) {
            self.forgotten.insert(gone, epoch);
        }
    }
}

async fn run(mut world: World, ops: Vec<Op>) {
    let mut model = Model::default();
    world.reopen(|settings, _| {
        settings.history_size = SIZE;
        settings.max_rooms = MAX_ROOMS as u64;
        settings.max_rooms_per_sender = MAX_ROOMS_PER_SENDER as u64;
        settings.queue_sender_limit = SENDER_LIMIT as u64;
    });
    for op in ops {
        let now = world.clock.load(SeqCst);
        let expired = now - TTL_MS;
        match op {
            Op::Append { room: name, id, from } => {
                let by = from.map(|from| sender(&from.to_string()));
                let appended =
                    world.submit_from(by, &room(&name.to_string()), &id.to_string()).await.unwrap();
                if !model.rooms.contains_key(&name) {
                    let begun = |room: &ModelRoom| from.is_some() && room.from == from;
                    if model.rooms.values().filter(|room| begun(room)).count()
                        >= MAX_ROOMS_PER_SENDER
                    {
                        model.evict(&world, begun).await;
                    }
                    if model.rooms.len() >= MAX_ROOMS {
                        model.evict(&world, |_| true).await;
                    }
                }
                let room = model
                    .rooms
                    .entry(name)
                    .or_insert_with(|| ModelRoom { from, ..ModelRoom::default() });
                room.head += 1;
                room.used = now;
                room.emptied_at = None;
                assert_eq!(appended.offset, room.head);
                assert_eq!(*room.epoch.get_or_insert(appended.epoch), appended.epoch);
                assert_ne!(model.forgotten.get(&name), Some(&appended.epoch));
                room.items.push((room.head, id.to_string(), now, vec![]));
                room.items.retain(|item| item.0 + SIZE > room.head);
            }
            Op::Receipt { room: name, id, user: who } => {
                let (id, who) = (id.to_string(), user(&who.to_string()));
                let item = model.rooms.get_mut(&name).and_then(|room| {
                    room.items
                        .iter_mut()
                        .rev()
                        .find(|item| item.1 == id)
                        .filter(|item| item.2 > expired)
                });
                let recorded =
                    world.store.record_receipt(room(&name.to_string()), id, who.clone(), now);
                assert_eq!(recorded.await.unwrap(), item.is_some());
                if let Some(item) = item
                    && item.3.iter().all(|receipt| receipt.user != who)
                {
                    item.3.push(Receipt { user: who, timestamp_ms: now });
                }
            }
            Op::Enqueue { user: who, sender: from } => {
                enqueue(&world, &mut model, &user(&who.to_string()), from).await;
            }
            Op::Confirm { user: who, nth } => {
                let who = user(&who.to_string());
                let up_to = model
                    .queue
                    .iter()
                    .filter(|item| item.1 == who)
                    .nth(nth)
                    .map_or(0, |item| item.0);
                let confirmed = model.queue.extract_if(.., |item| item.1 == who && item.0 <= up_to);
                let confirmed: Vec<_> = confirmed.collect();
                let removed = world.confirm(who.as_str(), up_to).await;
                // Expired messages may have been deleted before.
                let fresh = confirmed.iter().filter(|item| item.3 > expired).count() as u64;
                assert!((fresh..=confirmed.len() as u64).contains(&removed), "{removed}");
            }
            Op::Advance { seconds } => world.advance(seconds),
            Op::Sweep => {
                model.sweep(now);
                world.store.sweep().await.unwrap();
            }
            Op::Restart => {
                world.reopen(|_, _| {});
                if !world.survives {
                    model = Model::default();
                }
            }
        }
        compare(&world, &model).await;
    }
}

async fn enqueue(world: &World, model: &mut Model, who: &UserId, from: Option<u8>) {
    let now = world.clock.load(SeqCst);
    let expired = now - TTL_MS;
    let held: Vec<_> =
        model.queue.iter().filter(|item| item.1 == *who && item.3 > expired).collect();
    let own = held.iter().filter(|item| item.2 == from).count() as u64;
    let size = world.settings.queue_size;
    let full = held.len() as u64 >= size || (from.is_some() && own >= size.div_ceil(10));
    let of_sender = model.queue.iter().filter(|item| item.2 == from && item.3 > expired).count();
    let result = world
        .store
        .enqueue(who.clone(), from.map(|it| sender(&it.to_string())), world.entry("q"), None)
        .await;
    if full {
        assert_eq!(result, Err(StoreError::QueueFull));
    } else if from.is_some() && of_sender >= SENDER_LIMIT {
        assert_eq!(result, Err(StoreError::SenderQueueFull));
    } else {
        let seq = result.unwrap();
        assert!(model.queue.iter().all(|item| item.0 < seq));
        model.queue.push((seq, who.clone(), from, now));
    }
}

async fn compare(world: &World, model: &Model) {
    if let Backend::Embedded(store) = &world.store.backend {
        store.check_index();
    }
    let expired = world.clock.load(SeqCst) - TTL_MS;
    for name in 0..ROOMS {
        let page = world.all(&room(&name.to_string())).await;
        let absent = ModelRoom::default();
        let expected = model.rooms.get(&name).unwrap_or(&absent);
        let readable: Vec<_> =
            expected.items.iter().filter(|item| item.2 > expired).cloned().collect();
        assert_eq!(page.extent.head.offset, expected.head);
        assert_eq!(page.extent.oldest, readable.first().map_or(expected.head + 1, |item| item.0));
        assert_eq!(page.extent.head.epoch, expected.epoch.unwrap_or(page.extent.head.epoch));
        assert!(page.complete);
        let got: Vec<_> = page
            .items
            .into_iter()
            .map(|item| (item.offset, item.entry.id, item.entry.timestamp_ms, item.receipts))
            .collect();
        assert_eq!(got, readable);
    }
    for who in ["0", "1"].map(user) {
        let expected: Vec<_> = model
            .queue
            .iter()
            .filter(|item| item.1 == who && item.3 > expired)
            .map(|item| item.0)
            .collect();
        let items = world.store.queued(&who, 0, 1_000, usize::MAX).await.unwrap();
        assert_eq!(items.iter().map(|item| item.seq).collect::<Vec<_>>(), expected);
        assert_eq!(world.store.queue_len(&who).await.unwrap(), expected.len() as u64);
    }
}

/// The number of cases is a parameter, because Redis is slower over its socket.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn block_on(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future);
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn an_embedded_store_does_what_the_model_does(ops in proptest::collection::vec(op(), 1..80)) {
        block_on(async {
            run(World::on_a_file(), ops.clone()).await;
            run(World::in_memory(), ops).await;
        });
    }
}

#[test]
fn a_store_in_redis_does_what_the_model_does() {
    let server = Arc::new(RedisServer::start());
    proptest!(config(24), |(ops in proptest::collection::vec(op(), 1..80))| {
        block_on(async { run(World::on(&server), ops).await });
    });
}
