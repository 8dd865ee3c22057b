//! The log's layout: what is trimmed never comes back, and its space does.

use super::*;

impl World {
    async fn submit_all(&self, name: &str, ids: impl Iterator<Item = u32>) {
        let pending: Vec<_> = ids.map(|id| self.submit(&room(name), &id.to_string())).collect();
        for pending in pending {
            let _ = pending.await.unwrap();
        }
    }

    fn check_index(&self) {
        let Backend::Embedded(store) = &self.store.backend else { panic!("not an embedded store") };
        store.check_index();
    }

    /// The records in the log, and the messages that the rooms have.
    fn records(&self) -> (u64, u64) {
        (self.rows("log"), self.rows("messages"))
    }
}

on_both! {
    async fn space_is_taken_back_and_what_lives_stays(mut world) {
        world.reopen(|settings, _| settings.history_size = 20);
        // This room's messages lie before all others, and are copied forward again and again.
        world.submit_all("idle", 1..=20).await;
        assert!(world.receipt(&room("idle"), "7", "ann").await);
        let idle = world.all(&room("idle")).await;
        for round in 0..100 {
            for name in ["a", "b", "c"] {
                world.submit_all(name, round * 10..(round + 1) * 10).await;
            }
            world.check_index();
        }
        assert_eq!(world.all(&room("idle")).await, idle);
        for name in ["a", "b", "c"] {
            assert_eq!(world.offsets(&room(name)).await, (981..=1000).collect::<Vec<_>>());
        }
        let (records, messages) = world.records();
        assert!((80..=88).contains(&messages), "{messages}");
        assert!(records < 200, "{records} records for {messages} messages");
        world.store.sweep().await.unwrap();
        let (records, messages) = world.records();
        assert!(messages == 80 && records <= 88, "{records} records for {messages} messages");
        assert_eq!(world.all(&room("idle")).await, idle);
        world.check_index();
    }

    async fn an_id_is_found_among_the_copied_and_only_there(mut world) {
        world.reopen(|settings, _| settings.history_size = 50);
        world.submit_all("idle", 1..=50).await;
        for round in 0..20 {
            world.submit_all("busy", round * 50..(round + 1) * 50).await;
        }
        for id in 1..=50_u32 {
            let found = world.store.find_by_message_id(&room("idle"), &id.to_string()).await.unwrap();
            assert_eq!(found, Some(id.into()));
        }
        assert_eq!(world.store.find_by_message_id(&room("idle"), "51").await.unwrap(), None);
        assert!(world.receipt(&room("idle"), "50", "ann").await);
        assert!(!world.receipt(&room("busy"), "949", "ann").await, "it was trimmed");
    }

    async fn a_receipt_in_the_batch_of_its_message_finds_it(world) {
        world.append(&room("a"), "1").await;
        let (first, read, second, other) = world.store.with_writer(|_| {
            // All are ann's, so that they keep their order.
            let submit = || world.submit_from(Some(SenderId::User(user("ann"))), &room("a"), "2");
            let read = || world.store.record_receipt(room("a"), "2".into(), user("ann"), 0);
            (submit(), read(), submit(), read())
        });
        assert_eq!((first.await.unwrap().offset, second.await.unwrap().offset), (2, 3));
        assert!(read.await.unwrap() && other.await.unwrap());
        let page = world.all(&room("a")).await;
        let receipts: Vec<_> = page.items.iter().map(|item| item.receipts.len()).collect();
        assert_eq!(receipts, [0, 1, 1]);
    }
}

/// However the history was trimmed, wider limits at the next start must not bring it back.
#[tokio::test]
async fn what_was_trimmed_never_comes_back() {
    for restart in ["closed", "dropped"] {
        let mut world = World::on_a_file();
        world.reopen(|settings, tuning| {
            (settings.history_size, settings.max_rooms) = (10, 4);
            // Nothing is overwritten meanwhile.
            tuning.untidy = 1_000_000_000;
        });
        world.submit_all("by size", 1..=100).await;
        world.submit_all("by age", 1..=5).await;
        world.advance(101);
        world.submit_all("by age", 6..=8).await;
        world.submit_all("emptied", 1..=3).await;
        world.store.sweep().await.unwrap();
        world.advance(50);
        world.submit_all("by size", 101..=110).await;
        world.advance(60);
        world.submit_all("by age", 9..=9).await;
        world.store.sweep().await.unwrap();
        let seen = async |world: &World| {
            let mut seen = Vec::new();
            for name in ["by size", "by age", "emptied"] {
                seen.push((
                    world.offsets(&room(name)).await,
                    world.store.extent(&room(name)).await.unwrap(),
                ));
            }
            seen
        };
        let before = seen(&world).await;
        assert_eq!((&before[1].0[..], before[2].1.oldest), (&[9][..], 4));
        assert!(world.rows("log") > 120);
        if restart == "closed" {
            world.store.close().await;
        }
        world.reopen(|settings, _| {
            (settings.history_size, settings.history_ttl) = (1_000_000, None);
        });
        assert_eq!(seen(&world).await, before, "{restart}");
        world.check_index();
        // Nor do the messages of a forgotten room, if a new one is begun.
        world.reopen(|settings, _| settings.max_rooms = 1);
        for name in ["new", "emptied", "by size", "by age", "newer"] {
            assert_eq!(world.append(&room(name), "1").await, 1);
            assert_eq!(world.offsets(&room(name)).await, [1]);
        }
        world.reopen(|_, _| {});
        assert_eq!(world.offsets(&room("newer")).await, [1]);
        assert_eq!(world.rows("messages"), 3, "one of each room that is left");
        world.check_index();
    }
}

#[tokio::test]
async fn what_made_way_for_others_never_comes_back() {
    let mut world = World::on_a_file();
    world.reopen(|settings, _| settings.store_max_bytes = 2_000_000);
    for _ in 0..100 {
        let entry = Entry { json: "x".repeat(50_000).into(), ..world.entry("m") };
        let append = Append {
            room: room("a"),
            entry,
            except: Except::nobody(),
            sender: None,
            webhook: None,
        };
        let _ = world.store.append(append).await.unwrap();
    }
    let before = world.store.extent(&room("a")).await.unwrap();
    assert!(before.oldest > 60, "{before:?}");
    world.reopen(|settings, _| settings.store_max_bytes = 0);
    assert_eq!(world.store.extent(&room("a")).await.unwrap(), before);
    world.check_index();
}

#[tokio::test]
async fn a_start_between_a_copy_and_its_deletion_finds_each_message_once() {
    let mut world = World::on_a_file();
    world.reopen(|settings, _| settings.history_size = 10);
    world.submit_all("idle", 1..=10).await;
    let idle = world.all(&room("idle")).await;
    let mut doubled = 0;
    for round in 0..200 {
        world.submit_all("busy", round..=round).await;
        let copies: u64 = world.store.with_writer(|conn| {
            let sql = "SELECT count(*) - count(DISTINCT offset) FROM log WHERE room = 1";
            conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap().cast_unsigned()
        });
        if copies > 0 {
            doubled += 1;
            world.reopen(|_, _| {});
            assert_eq!(world.all(&room("idle")).await, idle);
            world.check_index();
        }
    }
    assert!(doubled > 5, "{doubled}");
}

/// Readers go on while the log is turned over under them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_whole_while_their_messages_are_copied() {
    let mut world = World::on_a_file();
    world.reopen(|settings, _| settings.history_size = 100);
    world.submit_all("idle", 1..=100).await;
    let idle = world.all(&room("idle")).await;
    let (store, expected) = (world.store.clone(), idle.clone());
    let reads = tokio::spawn(async move {
        for _ in 0..300 {
            assert_eq!(store.read(&room("idle"), ALL).await.unwrap(), expected);
            assert_eq!(store.find_by_message_id(&room("idle"), "50").await.unwrap(), Some(50));
        }
    });
    let mut round = 0;
    while !reads.is_finished() {
        world.submit_all("busy", round..round + 50).await;
        round += 50;
    }
    reads.await.unwrap();
    assert!(world.rows("log") < 700, "{}", world.rows("log"));
}

/// A slow room's messages lie before those of a fast one. They are not copied for every few messages of the fast one.
#[test]
fn what_is_copied_is_bounded_by_what_is_written() {
    let clock = Arc::new(AtomicI64::new(1_000_000));
    let settings = settings(Location::Memory, &clock);
    let (conn, mut rooms) = without_writer(&settings);
    let entry = Entry { json: "x".repeat(10_000).into(), ..entry() };
    let append = |rooms: &mut Rooms, name: &str, size| {
        let found = rooms.find_or_create(&conn, &room(name), None, 0).unwrap().unwrap();
        rooms.append(&conn, found, &entry, &Except::nobody(), size, &mut 9).unwrap();
        rooms.commit();
    };
    for _ in 0..300 {
        append(&mut rooms, "slow", 300);
    }
    let mut clean = clean::Clean::default();
    let mut most = 0;
    for _ in 0..3_000 {
        append(&mut rooms, "fast", 1);
        clean.allow_for(10_000, rooms.totals());
        if rooms.totals().dead() > rooms.totals().kept / 10 {
            clean.step(&conn, &mut rooms, 66, false).unwrap();
            rooms.commit();
        }
        most = most.max(rooms.totals().all);
    }
    // With a credit of four hundred at the start, and twice as many as are written at most.
    let copied = rooms.counts().next_place - 1 - 3_300;
    assert!(copied < 6_400, "{copied} copied for 3000 written");
    let kept = rooms.totals().kept;
    assert!(most < kept * 5 / 2, "{most} bytes for {kept}");
    assert!(rooms.held(1, held::Held::len) == Some(300), "the slow room has lost some");
    // Urgent work is done whatever it costs.
    while rooms.totals().dead() > clean.pending() {
        clean.step(&conn, &mut rooms, 1_000, true).unwrap();
        rooms.commit();
    }
    assert!(rooms.totals().kept >= rooms.totals().all - clean.pending());
}

#[test]
fn a_step_of_taking_space_back_is_bounded() {
    let clock = Arc::new(AtomicI64::new(1_000_000));
    let settings = settings(Location::Memory, &clock);
    let (conn, mut rooms) = without_writer(&settings);
    let conn = &conn;
    let large = Entry { json: "x".repeat(300_000).into(), ..entry() };
    for (name, entry, size) in [("idle", &entry(), 40), ("busy", &entry(), 1), ("large", &large, 1)]
    {
        for _ in 0..40 {
            let found = rooms.find_or_create(conn, &room(name), None, 0).unwrap().unwrap();
            let _ = rooms.append(conn, found, entry, &Except::nobody(), size, &mut 9).unwrap();
        }
    }
    rooms.commit();
    let places = || {
        conn.query_row("SELECT min(place), max(place), count(*) FROM log", [], |row| {
            Ok::<(i64, i64, i64), _>((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap()
    };
    let mut clean = clean::Clean::default();
    let mut seen = Vec::new();
    while rooms.totals().dead() > 500 {
        let is_over = rooms.totals().dead() - clean.pending() < 500;
        clean.step(conn, &mut rooms, if is_over { 0 } else { 30 }, false).unwrap();
        rooms.commit();
        seen.push(places());
        assert!(seen.len() < 30, "{seen:?}");
    }
    // Thirty are copied, ten are copied and twenty left out, one is; of the large ones only some are looked at.
    assert_eq!(seen[..3], [(1, 150, 150), (31, 160, 130), (61, 161, 101)]);
    let most = seen.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap();
    assert!(most <= 30, "{seen:?}");
    let (_, _, left) = *seen.last().unwrap();
    assert!(left <= 45, "{seen:?}");
}
