//! Faults: every statement of every transaction fails once, and the bytes of the file are not what they were.

use std::fs;

use super::*;

/// What the writer's transactions write, each with a condition under which it can fail.
const WRITES: [(&str, &str); 12] = [
    ("INSERT", "log"),
    ("DELETE", "log"),
    ("INSERT", "rooms"),
    ("UPDATE", "rooms"),
    ("DELETE", "rooms"),
    ("INSERT", "receipts"),
    ("DELETE", "receipts"),
    ("INSERT", "dropped"),
    ("INSERT", "forgotten"),
    ("INSERT", "creators"),
    ("DELETE", "queue"),
    ("UPDATE", "meta"),
];

impl World {
    /// Lets the `nth` such write from now on fail, and those after it.
    pub(super) fn fail(&self, write: &str, table: &str, nth: i64) {
        self.store.with_writer(|conn| {
            conn.execute_batch(&format!(
                "CREATE TEMP TABLE countdown (left INTEGER);
                 INSERT INTO countdown VALUES ({nth});
                 CREATE TEMP TRIGGER fault BEFORE {write} ON main.{table} BEGIN
                     SELECT RAISE(ABORT, 'injected') FROM countdown WHERE left < 1;
                     UPDATE countdown SET left = left - 1;
                 END;"
            ))
            .unwrap();
        });
    }

    pub(super) fn heal(&self) {
        self.store.with_writer(|conn| {
            conn.execute_batch("DROP TRIGGER fault; DROP TABLE countdown").unwrap();
        });
    }

    fn sound(&self) {
        let Backend::Embedded(store) = &self.store.backend else { panic!("not an embedded store") };
        store.check_index();
    }
}

on_both! {
    async fn a_failed_transaction_leaves_index_and_log_as_they_were(world) {
        let mut world = world;
        let mut failures = 0;
        for (write, table) in WRITES {
            for nth in [0, 1, 4] {
                world.reopen(|settings, _| {
                    (settings.history_size, settings.max_rooms) = (5, 4);
                    settings.max_rooms_per_sender = 2;
                });
                for n in 0..12_u64 {
                    let from = Some(SenderId::User(user("eve"))).filter(|_| n % 2 == 0);
                    let _ = world.submit_from(from, &room(&(n % 6).to_string()), "m").await.unwrap();
                    let _ = world.receipt(&room(&(n % 6).to_string()), "m", "ann").await;
                }
                world.store.enqueue(user("bob"), None, world.entry("q"), None).await.unwrap();
                world.fail(write, table, nth);
                let mut acknowledged = std::collections::BTreeMap::new();
                for n in 0..40_u64 {
                    let name = (n % 7).to_string();
                    let from = Some(SenderId::User(user("eve"))).filter(|_| n % 3 == 0);
                    match world.submit_from(from, &room(&name), "m").await {
                        Ok(position) => {
                            acknowledged.insert(name.clone(), position.offset);
                        }
                        Err(StoreError::Unavailable(reason)) => {
                            assert!(reason.contains("injected"), "{reason}");
                            failures += 1;
                        }
                        Err(error) => panic!("{error}"),
                    }
                    let read = world.store.record_receipt(room(&name), "m".into(), user("bob"), 0);
                    failures += usize::from(read.await.is_err());
                    if n % 10 == 9 {
                        world.advance(60);
                        failures += usize::from(world.store.sweep().await.is_err());
                    }
                    if n % 4 == 3 {
                        world.sound();
                    }
                }
                for (name, offset) in acknowledged {
                    let head = world.store.extent(&room(&name)).await.unwrap().head.offset;
                    // A room may have been forgotten since, and begun anew.
                    assert!(head <= offset, "{head} {offset}");
                }
                world.heal();
                let next = world.submit(&room("1"), "m").await.unwrap().offset;
                assert_eq!(world.offsets(&room("1")).await.last(), Some(&next));
                world.store.sweep().await.unwrap();
                world.sound();
            }
        }
        assert!(failures > 100, "{failures}");
    }

    async fn where_only_taking_space_back_fails_messages_are_stored(mut world) {
        world.reopen(|settings, _| settings.history_size = 5);
        world.append(&room("idle"), "m").await;
        world.fail("DELETE", "log", 0);
        for n in 1..=100 {
            assert_eq!(world.append(&room("busy"), "m").await, n);
        }
        assert!(world.rows("log") >= 100);
        world.heal();
        world.append(&room("busy"), "m").await;
        world.store.sweep().await.unwrap();
        assert!(world.rows("log") < 20, "{}", world.rows("log"));
        assert_eq!(world.offsets(&room("idle")).await, [1]);
        world.sound();
    }
}

/// What a reader sees of all rooms; `None` if it is told that something is wrong.
async fn seen(store: &Store) -> Option<Vec<Page>> {
    let mut pages = Vec::new();
    for name in ["a", "b", "c"] {
        pages.push(store.read(&room(name), ALL).await.ok()?);
    }
    Some(pages)
}

#[tokio::test]
async fn a_flipped_byte_is_never_read_as_another_message() {
    let mut world = World::on_a_file();
    // Some records are dead, some are copies, some are large.
    world.reopen(|settings, _| settings.history_size = 8);
    for n in 0..60 {
        let name = ["a", "b", "c", "a", "a"][n % 5];
        let text = "grüße ".repeat(if n % 13 == 0 { 1_500 } else { n });
        let entry = Entry {
            json: format!(r#"{{"n":{n},"text":"{text}"}}"#).into(),
            ..world.entry(&n.to_string())
        };
        let except = Except { users: vec![user("ann")], ..Except::nobody() };
        let append = Append { room: room(name), entry, except, sender: None, webhook: None };
        let _ = world.store.append(append).await.unwrap();
    }
    let expected = seen(&world.store).await.unwrap();
    world.store.close().await;
    let sound = fs::read(world.file()).unwrap();
    let copy = TempDir::new().unwrap();
    let location = Location::File(copy.path().join("roomcast.db"));
    let settings = Settings { location, ..world.settings.clone() };
    let Location::File(path) = &settings.location else { panic!("in memory") };
    let (mut refused, mut told, mut same) = (0, 0, 0);
    // A prime, so that the flips wander over all parts of the pages.
    for at in (0..sound.len()).step_by(499) {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(path, bytes).unwrap();
        match Store::open_tuned(settings.clone(), tuning(), |_| {}) {
            Err(_) => refused += 1,
            Ok(store) => match seen(&store).await {
                None => told += 1,
                Some(pages) => {
                    // Another epoch is another history, which nobody takes for the one that was.
                    for (page, expected) in pages.iter().zip(&expected) {
                        if page.extent.head.epoch == expected.extent.head.epoch {
                            assert_eq!(page.items, expected.items, "after a flip at {at}");
                        }
                    }
                    same += 1;
                }
            },
        }
    }
    assert!(refused > 5 && told > 5 && same > 5, "{refused} {told} {same}");
}
