//! Writes that happen once.

use super::*;
use crate::store::idempotency::{Before, Done, Once};

fn once(key: u8, content: u8) -> Once {
    Once { key: [key; 16], content: [content; 16], sender: None, answer: "the answer".into() }
}

/// The same of a client.
fn once_of(name: &str, key: u8) -> Once {
    Once { sender: Some(sender(name)), ..once(key, 0) }
}

fn before<T>(number: u64, answer: &str) -> Done<T> {
    Done::Before(Before { number, answer: answer.into() })
}

const LEASE: Duration = Duration::from_secs(50);

impl World {
    fn append_once(&self, id: &str, once: Once) -> Pending<Done<Position>> {
        let append = Append {
            room: room("a"),
            entry: self.entry(id),
            except: Except::nobody(),
            sender: once.sender.clone(),
            webhook: None,
        };
        self.store.append_once(append, once)
    }

    /// The offset of a message that is stored now.
    async fn first(&self, id: &str, once: Once) -> u64 {
        match self.append_once(id, once).await.unwrap() {
            Done::Now(position) => position.offset,
            other => panic!("{other:?}"),
        }
    }

    async fn claimed(&self, once: Once) -> Done<()> {
        self.store.claim(once, LEASE).await.unwrap()
    }
}

on_every_and_two! {
    async fn a_message_with_a_key_is_stored_once(mut world) {
        world.append(&room("a"), "other").await;
        assert_eq!(world.first("m", once(1, 1)).await, 2);
        for _ in 0..2 {
            assert_eq!(world.append_once("m", once(1, 1)).await, Ok(before(2, "the answer")));
        }
        assert_eq!(world.append_once("x", once(1, 2)).await, Err(StoreError::KeyReused));
        assert_eq!(world.first("n", once(2, 1)).await, 3);
        assert_eq!(world.offsets(&room("a")).await, [1, 2, 3]);
        if world.survives {
            world.reopen(|_, _| {});
            assert_eq!(world.append_once("m", once(1, 1)).await, Ok(before(2, "the answer")));
        }
        assert_eq!(world.tail(3).await.len(), 3);
    }

    async fn of_many_at_once_one_is_stored(world) {
        let tries = (0..50).map(|number| {
            world.append_once("m", Once { answer: number.to_string().into(), ..once(1, 1) })
        });
        let tries = tries.collect::<Vec<_>>();
        let mut answers = HashSet::new();
        let mut stored = 0;
        for outcome in tries {
            match outcome.await.unwrap() {
                Done::Now(position) => {
                    assert_eq!(position.offset, 1);
                    stored += 1;
                }
                Done::Before(before) => {
                    assert_eq!(before.number, 1);
                    answers.insert(before.answer.to_string());
                }
                Done::UnderWay => panic!("nobody has claimed it"),
            }
        }
        assert_eq!((stored, answers), (1, HashSet::from(["0".to_owned()])));
        assert_eq!(world.offsets(&room("a")).await, [1]);
    }

    async fn what_is_claimed_is_under_way_until_it_is_settled(world) {
        assert_eq!(world.claimed(once(1, 1)).await, Done::Now(()));
        assert_eq!(world.claimed(once(1, 1)).await, Done::UnderWay);
        assert_eq!(world.append_once("m", once(1, 1)).await, Ok(Done::UnderWay));
        assert_eq!(world.store.remember(once(1, 1)).await, Ok(Done::UnderWay));
        assert_eq!(world.store.claim(once(1, 2), LEASE).await, Err(StoreError::KeyReused));
        let settled = Once { answer: "settled".into(), ..once(1, 1) };
        assert_eq!(world.store.settle_claim(settled).await, Ok(1));
        assert_eq!(world.claimed(once(1, 1)).await, before(0, "settled"));
        assert_eq!(world.append_once("m", once(1, 1)).await, Ok(before(0, "settled")));
        // The first answer counts.
        assert_eq!(world.store.settle_claim(once(1, 1)).await, Ok(1));
        assert_eq!(world.claimed(once(1, 1)).await, before(0, "settled"));
        // What is done is not given back.
        assert_eq!(world.store.release_claim([1; 16]).await, Ok(1));
        assert_eq!(world.claimed(once(1, 1)).await, before(0, "settled"));
    }

    async fn a_claim_that_is_given_back_can_be_taken(world) {
        assert_eq!(world.claimed(once(1, 1)).await, Done::Now(()));
        assert_eq!(world.store.release_claim([1; 16]).await, Ok(1));
        assert_eq!(world.claimed(once(1, 2)).await, Done::Now(()));
        assert_eq!(world.claimed(once(1, 2)).await, Done::UnderWay);
    }

    async fn what_is_remembered_at_once_is_done(world) {
        assert_eq!(world.store.remember(once(1, 1)).await, Ok(Done::Now(())));
        assert_eq!(world.store.remember(once(1, 1)).await, Ok(before(0, "the answer")));
        assert_eq!(world.store.remember(once(1, 2)).await, Err(StoreError::KeyReused));
    }

    async fn a_queued_message_leaves_its_answer_with_its_claim(world) {
        let ann = user("ann");
        let enqueue = |id: &str, once| {
            world.store.enqueue_once(ann.clone(), None, world.entry(id), None, once)
        };
        assert_eq!(world.claimed(once(1, 1)).await, Done::Now(()));
        let Done::Now(place) = enqueue("m", once(1, 1)).await.unwrap() else {
            panic!("it was not queued")
        };
        assert_eq!(world.claimed(once(1, 1)).await, before(place, "the answer"));
        // One that had the claim too long.
        assert_eq!(enqueue("m", once(1, 1)).await, Ok(before(place, "the answer")));
        assert_eq!(enqueue("m", once(1, 2)).await, Err(StoreError::KeyReused));
        assert_eq!(world.store.queue_len(&ann).await, Ok(1));
    }

    async fn a_queued_message_that_is_refused_keeps_no_key(mut world) {
        world.reopen(|settings, _| settings.queue_size = 1);
        let ann = user("ann");
        world.store.enqueue(ann.clone(), None, world.entry("q"), None).await.unwrap();
        let refused = world.store.enqueue_once(ann, None, world.entry("m"), None, once(1, 1));
        assert_eq!(refused.await, Err(StoreError::QueueFull));
        assert_eq!(world.claimed(once(1, 2)).await, Done::Now(()));
    }
}

on_every! {
    async fn a_message_that_is_refused_keeps_no_key(mut world) {
        world.occupy(&room("b")).await;
        world.reopen(|settings, _| settings.max_rooms = 1);
        world.append(&room("b"), "m").await;
        let refused = world.append_once("m", once(1, 1)).await;
        assert_eq!(refused, Err(StoreError::TooManyRooms { limit: 1 }));
        assert_eq!(world.claimed(once(1, 2)).await, Done::Now(()));
    }

    async fn a_sender_has_only_so_many_keys(mut world) {
        world.reopen(|settings, _| settings.max_keys_per_sender = 3);
        world.first("m", once_of("bob", 200)).await;
        for key in 1..=5 {
            world.first("m", once_of("ann", key)).await;
        }
        assert_eq!(world.rows("idempotency_keys"), 4);
        // Its oldest were forgotten, and nobody else's.
        for (name, key) in [("ann", 3), ("ann", 5), ("bob", 200)] {
            let again = world.append_once("m", once_of(name, key)).await.unwrap();
            assert!(matches!(again, Done::Before(_)), "{name} {key}: {again:?}");
        }
        world.first("m", once_of("ann", 1)).await;
        assert_eq!(world.rows("idempotency_keys"), 4);
    }

    async fn backends_have_many_more_keys(mut world) {
        world.reopen(|settings, _| {
            settings.max_keys = 20;
            settings.max_keys_per_sender = 3;
        });
        for key in 1..=40 {
            world.first("m", once(key, 0)).await;
        }
        assert_eq!(world.rows("idempotency_keys"), 20);
        assert!(matches!(world.append_once("m", once(21, 0)).await, Ok(Done::Before(_))));
        assert!(matches!(world.append_once("m", once(20, 0)).await, Ok(Done::Now(_))));
    }
}

on_both! {
    async fn a_key_is_forgotten_after_its_window(world) {
        world.first("m", once(1, 1)).await;
        world.advance(99);
        assert_eq!(world.append_once("m", once(1, 1)).await, Ok(before(1, "the answer")));
        world.advance(1);
        // Whether or not it was swept; and not from its last use on.
        assert_eq!(world.first("m", once(1, 2)).await, 2);
        world.first("m", once(2, 2)).await;
        world.advance(100);
        world.store.sweep().await.unwrap();
        assert_eq!(world.rows("idempotency_keys"), 0);
    }

    async fn a_claim_ends_with_its_lease(world) {
        assert_eq!(world.claimed(once(1, 1)).await, Done::Now(()));
        world.advance(49);
        assert_eq!(world.claimed(once(1, 1)).await, Done::UnderWay);
        world.store.sweep().await.unwrap();
        assert_eq!(world.rows("idempotency_keys"), 1);
        world.advance(1);
        assert_eq!(world.claimed(once(1, 2)).await, Done::Now(()));
        world.advance(50);
        world.store.sweep().await.unwrap();
        assert_eq!(world.rows("idempotency_keys"), 0);
    }

    async fn a_claim_lasts_longer_than_the_window(mut world) {
        world.reopen(|settings, _| settings.idempotency_window = Duration::from_secs(1));
        assert_eq!(world.claimed(once(1, 1)).await, Done::Now(()));
        world.advance(10);
        world.store.sweep().await.unwrap();
        assert_eq!(world.claimed(once(1, 1)).await, Done::UnderWay);
    }
}

#[tokio::test]
async fn a_claim_ends_with_the_process() {
    let mut world = World::on_a_file();
    assert_eq!(world.claimed(once(1, 1)).await, Done::Now(()));
    world.first("m", once(2, 2)).await;
    world.reopen(|_, _| {});
    assert_eq!(world.claimed(once(1, 2)).await, Done::Now(()));
    assert_eq!(world.append_once("m", once(2, 2)).await, Ok(before(1, "the answer")));
}

#[tokio::test]
async fn redis_forgets_keys_and_claims_by_itself() {
    let server = Arc::new(RedisServer::start());
    let mut world = World::on(&server);
    world.reopen(|settings, _| settings.idempotency_window = Duration::from_millis(300));
    world.first("m", once_of("ann", 1)).await;
    assert_eq!(world.store.claim(once(2, 2), Duration::from_millis(300)).await, Ok(Done::Now(())));
    assert_eq!(world.rows("idempotency_keys"), 2);
    while world.rows("idempotency_keys") > 0 || world.rows("key_lists") > 0 {
        tokio::task::yield_now().await;
    }
    world.first("m", once_of("ann", 1)).await;
}
