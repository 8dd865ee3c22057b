//! The index of the idempotency keys is what their table holds, whatever fails.

use std::sync::atomic::Ordering::SeqCst;

use super::*;
use crate::store::{
    idempotency::{Before, Done},
    tests::sender,
};

fn once(number: u8) -> Once {
    Once { key: [number; 16], content: [0; 16], sender: None, answer: "a".into() }
}

/// A key that begins as all others with the same `first`.
fn alike(first: u8, last: u8) -> Once {
    let mut once = once(first);
    once.key[15] = last;
    once
}

impl World {
    async fn remembered(&self, once: Once) -> Done<()> {
        self.store.remember(once).await.unwrap()
    }
}

const KNOWN: Done<()> = Done::Now(());

fn before(answer: &str) -> Done<()> {
    Done::Before(Before { number: 0, answer: answer.into() })
}

on_both! {
    async fn keys_that_begin_alike_are_told_apart(mut world) {
        for last in 1..=3 {
            let answer = last.to_string().into();
            assert_eq!(world.remembered(Once { answer, ..alike(7, last) }).await, KNOWN);
        }
        // Other content of another key is nobody's.
        assert_eq!(world.remembered(Once { content: [9; 16], ..alike(7, 4) }).await, KNOWN);
        for round in 0..2 {
            if round == 1 && world.survives {
                world.reopen(|_, _| {});
            }
            for last in 1..=3 {
                assert_eq!(world.remembered(alike(7, last)).await, before(&last.to_string()));
            }
            assert_eq!(world.store.remember(alike(7, 4)).await, Err(StoreError::KeyReused));
        }
        assert_eq!(world.rows("idempotency_keys"), 4);
    }

    async fn a_failed_transaction_remembers_nothing_and_forgets_nothing(mut world) {
        world.reopen(|settings, _| settings.max_keys = 3);
        for number in 1..=3 {
            assert_eq!(world.remembered(once(number)).await, KNOWN);
        }
        for write in ["INSERT", "DELETE"] {
            world.fail(write, "idempotency_keys", 0);
            let failed = world.store.remember(once(4)).await;
            assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
            world.heal();
        }
        for number in 1..=3 {
            assert_eq!(world.remembered(once(number)).await, before("a"));
        }
        // It is free for other content, and the oldest makes way for it only now.
        assert_eq!(world.remembered(Once { content: [9; 16], ..once(4) }).await, KNOWN);
        assert_eq!(world.rows("idempotency_keys"), 3);
        assert_eq!(world.remembered(once(2)).await, before("a"));
        assert_eq!(world.remembered(once(1)).await, KNOWN);
        assert_eq!(world.remembered(once(2)).await, KNOWN, "it was the oldest");
    }

    async fn the_index_is_counted(world) {
        let nothing = world.store.stats().index_bytes;
        for number in 1..=200 {
            world.remembered(Once { sender: Some(sender("ann")), ..once(number) }).await;
        }
        let held = world.store.stats().index_bytes - nothing;
        // A sender has no more than a hundred, and a few.
        assert!((100 * 60..110 * 80).contains(&held), "{held} bytes");
        world.advance(100);
        world.store.sweep().await.unwrap();
        assert!(world.store.stats().index_bytes <= nothing + 200);
    }
}

#[tokio::test]
async fn after_a_restart_the_oldest_are_still_the_first_to_go() {
    let mut world = World::on_a_file();
    world.reopen(|settings, _| (settings.max_keys, settings.max_keys_per_sender) = (5, 2));
    let of_ann = |number| Once { sender: Some(sender("ann")), ..once(number) };
    assert_eq!(world.remembered(once(1)).await, KNOWN);
    for number in [11, 12] {
        assert_eq!(world.remembered(of_ann(number)).await, KNOWN);
    }
    assert_eq!(world.remembered(once(2)).await, KNOWN);
    world.reopen(|_, _| {});
    assert_eq!(world.remembered(of_ann(13)).await, KNOWN);
    assert_eq!(world.remembered(of_ann(12)).await, before("a"));
    assert_eq!(world.rows("idempotency_keys"), 4, "11 has made way");
    world.reopen(|_, _| {});
    for number in [3, 4] {
        assert_eq!(world.remembered(once(number)).await, KNOWN);
    }
    for known in [of_ann(12), of_ann(13), once(2), once(3), once(4)] {
        assert_eq!(world.remembered(known).await, before("a"));
    }
    // A lower limit is in force with the next key.
    world.reopen(|settings, _| settings.max_keys = 2);
    assert_eq!(world.remembered(once(5)).await, KNOWN);
    assert_eq!(world.rows("idempotency_keys"), 2);
    assert_eq!(world.remembered(once(4)).await, before("a"));
}

#[test]
fn whatever_is_committed_or_fails_the_index_is_what_the_table_holds() {
    let clock = Arc::new(AtomicI64::new(1_000_000));
    let settings = Settings {
        max_keys: 12,
        max_keys_per_sender: 4,
        idempotency_window: Duration::from_secs(20),
        ..settings(Location::Memory, &clock)
    };
    let (conn, _) = without_writer(&settings);
    let mut keys = idempotency::load(&conn).unwrap();
    let mut state = 7_u64;
    let mut random = |below: u8| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        u8::try_from((state >> 33) % u64::from(below)).unwrap()
    };
    let (mut known, mut taken_back, mut full) = (0, 0, 0);
    for _ in 0..3_000 {
        let transaction = conn.unchecked_transaction().unwrap();
        for _ in 0..=random(4) {
            let sender =
                [None, Some(sender("ann")), Some(sender("bob"))][usize::from(random(3))].clone();
            let once = Once { sender, ..alike(random(3), random(8)) };
            let lease = Some(Duration::from_secs(10)).filter(|_| random(2) == 0);
            match random(5) {
                0 | 1 => {
                    let claimed = idempotency::claim(&conn, &mut keys, &settings, &once, lease);
                    known += usize::from(claimed.unwrap().unwrap().past.is_some());
                }
                2 => idempotency::settle(&conn, &mut keys, &settings, &once).unwrap(),
                3 => idempotency::release(&conn, &mut keys, &once.key).unwrap(),
                _ => {
                    clock.fetch_add(1_000, SeqCst);
                    idempotency::sweep(&conn, &mut keys, &settings, &mut 5).unwrap();
                }
            }
        }
        if random(3) == 0 {
            drop(transaction);
            keys.roll_back();
            taken_back += 1;
        } else {
            transaction.commit().unwrap();
            keys.commit();
        }
        assert_eq!(keys.content(), super::super::keys::Keys::load(&conn).unwrap().content());
        assert!(keys.len() <= 12, "{}", keys.len());
        full += usize::from(keys.len() == 12);
        for name in ["u:ann", "u:bob"] {
            assert!(keys.count_of(name) <= 4, "{name}");
        }
    }
    assert!(known > 300 && taken_back > 500 && full > 30, "{known} {taken_back} {full}");
}
