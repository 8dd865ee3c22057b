//! The log: order, offsets, pages, limits, epochs, receipts.

use super::*;

on_every_and_two! {
    async fn a_message_comes_back_to_the_letter(world) {
        let except = Except { rooms: vec![RoomName::parse("x").unwrap()], ..Except::nobody() };
        let entry = Entry {
            id: "ü\u{0}'1".into(),
            event: "newMessage".into(),
            json: r#"{"z":1,"a":{"_placeholder":true,"num":0},"t":"\u0000 ✓"}"#.into(),
            attachments: vec![bytes("one"), Bytes::new(), bytes("\u{0}three")],
            timestamp_ms: 1_000_123,
        };
        let append = Append { room: room("a"), entry: entry.clone(), except: except.clone() , sender: None, webhook: None };
        let _ = world.store.append(append).await.unwrap();
        let read = world.all(&room("a")).await.items.remove(0);
        assert_eq!((&read.entry, &read.except), (&entry, &except));
        let tail = world.tail(1).await;
        assert_eq!((&*tail[0].entry, &tail[0].except, &tail[0].room), (&entry, &except, &room("a")));
    }

    async fn the_same_name_in_another_namespace_is_another_room(world) {
        let other = RoomKey { namespace: "/chat".into(), ..room("a") };
        let first = world.submit(&room("a"), "m").await.unwrap();
        let second = world.submit(&other, "m").await.unwrap();
        assert_eq!((first.offset, second.offset), (1, 1));
        assert_ne!(first.epoch, second.epoch);
    }

    async fn pages_end_at_their_limits_and_say_whether_more_follows(world) {
        let key = room("a");
        for n in 1..=10 {
            world.append(&key, &n.to_string()).await;
        }
        let size = world.entry("1").size();
        let page = async |after, limit, max_bytes| {
            let page = world.store.read(&key, Query { after, limit, max_bytes, receipts: false }).await.unwrap();
            (page.items.iter().map(|item| item.offset).collect::<Vec<_>>(), page.complete)
        };
        assert_eq!(page(0, 4, usize::MAX).await, (vec![1, 2, 3, 4], false));
        assert_eq!(page(4, 6, usize::MAX).await, (vec![5, 6, 7, 8, 9, 10], true));
        assert_eq!(page(0, 10, 2 * size).await, (vec![1, 2], false));
        assert_eq!(page(3, 10, 1).await, (vec![4], false), "one always fits");
        assert_eq!(page(9, 10, 1).await, (vec![10], true));
        assert_eq!(page(10, 10, 1).await, (vec![], true));
        assert_eq!(page(u64::MAX, 10, 1).await, (vec![], true));
        assert_eq!(page(0, 0, 1).await, (vec![], false));
    }

    async fn only_the_newest_can_be_read_and_the_surplus_on_disk_is_small(mut world) {
        world.reopen(|settings, _| settings.history_size = 16);
        for n in 1..=100 {
            world.append(&room("a"), &n.to_string()).await;
            assert!(world.rows("messages") <= 18, "{} rows after {n}", world.rows("messages"));
        }
        assert_eq!(world.offsets(&room("a")).await, (85..=100).collect::<Vec<_>>());
        assert_eq!(world.all(&room("a")).await.extent.oldest, 85);
        assert_eq!(world.store.find_by_message_id(&room("a"), "84").await.unwrap(), None);
        assert_eq!(world.store.find_by_message_id(&room("a"), "85").await.unwrap(), Some(85));
    }

    async fn what_is_too_old_cannot_be_read_and_a_sweep_deletes_it(world) {
        let key = room("a");
        world.append(&key, "old").await;
        world.advance(60);
        world.append(&key, "young").await;
        world.advance(39);
        assert_eq!(world.offsets(&key).await, [1, 2]);
        world.advance(1);
        assert_eq!(world.offsets(&key).await, [2]);
        assert_eq!(world.store.find_by_message_id(&key, "old").await.unwrap(), None);
        assert!(!world.receipt(&key, "old", "ann").await);
        assert_eq!(world.rows("messages"), 2);
        world.store.sweep().await.unwrap();
        assert_eq!(world.rows("messages"), 1);
        world.advance(60);
        let empty = world.all(&key).await;
        assert_eq!((empty.items.len(), empty.complete, empty.extent.head.offset, empty.extent.oldest), (0, true, 2, 3));
        world.store.sweep().await.unwrap();
        assert_eq!(world.rows("messages"), 0);
        let extent = world.store.extent(&key).await.unwrap();
        assert_eq!(extent, empty.extent);
        let next = world.submit(&key, "next").await.unwrap();
        assert_eq!(next, extent.head.at(3), "an emptied room goes on");
    }

    async fn a_room_silent_for_two_lifetimes_is_forgotten_and_begins_anew(world) {
        let (key, other) = (room("a"), room("b"));
        let before = world.submit(&key, "m").await.unwrap().epoch;
        let unwritten = world.store.extent(&other).await.unwrap().head.epoch;
        for seconds in [100, 99] {
            world.advance(seconds);
            world.store.sweep().await.unwrap();
            assert_eq!(world.store.extent(&key).await.unwrap(), Extent { head: Position { offset: 1, epoch: before }, oldest: 2 });
        }
        world.advance(1);
        world.store.sweep().await.unwrap();
        let after = world.store.extent(&key).await.unwrap();
        assert_eq!((after.head.offset, after.oldest), (0, 1));
        assert_ne!(after.head.epoch, before);
        assert_eq!((world.rows("rooms"), world.store.stats().rooms), (0, 0));
        assert_eq!(world.submit(&key, "m").await.unwrap(), after.head.at(1));
        // One in 65,536 pairs of rooms shares a bucket; in a file the seed decides which.
        if let Backend::Embedded(store) = &world.store.backend
            && store.derived_alike(&key, &other)
        {
            return;
        }
        assert_eq!(world.store.extent(&other).await.unwrap().head.epoch, unwritten);
    }

    async fn a_room_without_an_age_limit_is_never_forgotten(mut world) {
        world.reopen(|settings, _| settings.history_ttl = None);
        let epoch = world.submit(&room("a"), "m").await.unwrap().epoch;
        world.advance(1_000_000_000);
        world.store.sweep().await.unwrap();
        let page = world.all(&room("a")).await;
        assert_eq!((page.items.len(), page.extent.head.epoch), (1, epoch));
    }

    async fn asking_where_an_unwritten_room_stands_stores_nothing_and_tells_its_epoch(world) {
        let extent = world.store.extent(&room("a")).await.unwrap();
        assert_eq!((extent.head.offset, extent.oldest), (0, 1));
        assert_eq!(world.rows("rooms"), 0);
        assert_eq!(world.all(&room("a")).await, Page { items: vec![], extent, complete: true });
        assert_eq!(world.store.find_by_message_id(&room("a"), "m").await.unwrap(), None);
        assert_eq!(world.submit(&room("a"), "m").await.unwrap(), extent.head.at(1));
        assert_eq!(world.store.extent(&room("a")).await.unwrap(), Extent { head: extent.head.at(1), ..extent });
    }

    async fn an_id_means_the_newest_message_with_it(world) {
        for id in ["x", "y", "x", "z"] {
            world.append(&room("a"), id).await;
        }
        assert_eq!(world.store.find_by_message_id(&room("a"), "x").await.unwrap(), Some(3));
        assert_eq!(world.store.find_by_message_id(&room("a"), "w").await.unwrap(), None);
        assert!(world.receipt(&room("a"), "x", "ann").await);
        let page = world.all(&room("a")).await;
        let counts: Vec<_> = page.items.iter().map(|item| item.receipts.len()).collect();
        assert_eq!(counts, [0, 0, 1, 0]);
    }

    async fn a_receipt_counts_once_a_user_and_the_first_time_stays(world) {
        world.append(&room("a"), "m").await;
        for who in ["zoe", "ann", "zoe"] {
            assert!(world.receipt(&room("a"), "m", who).await);
            world.advance(1);
        }
        assert!(!world.receipt(&room("a"), "other", "ann").await);
        assert!(!world.receipt(&room("b"), "m", "ann").await);
        let page = world.all(&room("a")).await;
        let expected = [("zoe", 1_000_000), ("ann", 1_001_000)]
            .map(|(name, timestamp_ms)| Receipt { user: user(name), timestamp_ms });
        assert_eq!(page.items[0].receipts, expected);
        let page = world.store.read(&room("a"), Query { receipts: false, ..ALL }).await.unwrap();
        assert_eq!(page.items[0].receipts, []);
    }

    async fn a_message_keeps_a_thousand_receipts_and_takes_them_along(mut world) {
        world.reopen(|settings, _| settings.history_size = 1);
        world.append(&room("a"), "m").await;
        let now = world.clock.load(SeqCst);
        let pending: Vec<_> = (0..=MAX_RECEIPTS)
            .map(|n| world.store.record_receipt(room("a"), "m".into(), user(&n.to_string()), now))
            .collect();
        let mut recorded = 0;
        for pending in pending {
            recorded += u64::from(pending.await.unwrap());
        }
        assert_eq!(recorded, MAX_RECEIPTS);
        assert!(world.receipt(&room("a"), "m", "7").await, "one that is there already");
        assert_eq!(world.all(&room("a")).await.items[0].receipts.len() as u64, MAX_RECEIPTS);
        // Each commit deletes a bounded number of rows, so it takes some messages.
        for n in 0..20 {
            world.append(&room("a"), &n.to_string()).await;
            assert_eq!(world.all(&room("a")).await.items[0].receipts, [], "message {n} has none");
        }
        assert_eq!(world.rows("receipts"), 0);
        assert!(world.rows("messages") <= 2);
    }
}

on_every! {
    async fn offsets_count_from_one_in_each_room_and_the_tail_follows_the_order_of_calls(world) {
        let (a, b) = (room("a"), room("b"));
        // All are submitted before the first one is awaited.
        let pending: Vec<_> =
            (0..300).map(|n| world.submit(if n % 3 == 0 { &b } else { &a }, &n.to_string())).collect();
        let mut expected = (0, 0);
        for (n, pending) in pending.into_iter().enumerate() {
            let next = if n % 3 == 0 { &mut expected.1 } else { &mut expected.0 };
            *next += 1;
            assert_eq!(pending.await.unwrap().offset, *next);
        }
        let tail: Vec<_> = world.tail(300).await.iter().map(|it| it.entry.id.clone()).collect();
        assert_eq!(tail, (0..300).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(world.offsets(&a).await, (1..=200).collect::<Vec<_>>());
        assert_eq!(world.offsets(&b).await, (1..=100).collect::<Vec<_>>());
        let stats = world.store.stats();
        assert_eq!((stats.entries, stats.rooms, stats.queued), (300, 2, 0));
        assert!(stats.commits < 300, "group commit: {}", stats.commits);
    }

    async fn one_room_too_many_is_refused_where_all_have_members_and_the_others_of_its_batch_are_not(mut world) {
        world.reopen(|settings, _| settings.max_rooms = 2);
        for name in ["a", "b"] {
            world.occupy(&room(name)).await;
        }
        let pending: Vec<_> = ["a", "b", "c", "a"].map(|name| world.submit(&room(name), name)).into_iter().collect();
        let mut results = Vec::new();
        for pending in pending {
            results.push(pending.await.map(|appended| appended.offset));
        }
        assert_eq!(results, [Ok(1), Ok(1), Err(StoreError::TooManyRooms { limit: 2 }), Ok(2)]);
        assert_eq!(world.store.health(), Health::Working);
        assert_eq!(world.store.stats().evictions, 0);
        world.advance(200);
        world.store.sweep().await.unwrap();
        world.advance(200);
        world.store.sweep().await.unwrap();
        assert_eq!(world.append(&room("c"), "c").await, 1, "forgotten rooms make place");
    }

    async fn the_least_recently_used_room_makes_way_with_a_new_epoch(mut world) {
        world.reopen(|settings, _| settings.max_rooms = 3);
        let mut epochs = Vec::new();
        for name in ["a", "b", "c"] {
            epochs.push(world.submit(&room(name), "1").await.unwrap().epoch);
            world.advance(1);
        }
        world.append(&room("a"), "2").await;
        assert!(world.receipt(&room("b"), "1", "ann").await);
        world.advance(1);
        assert_eq!(world.append(&room("d"), "1").await, 1);
        assert_eq!(world.store.stats().evictions, 1);
        let gone = world.all(&room("b")).await;
        assert_eq!((gone.extent.head.offset, gone.extent.oldest, gone.items.len()), (0, 1, 0));
        assert_ne!(gone.extent.head.epoch, epochs[1], "its offsets are not trusted");
        for (name, head, epoch) in [("a", 2, epochs[0]), ("c", 1, epochs[2])] {
            let found = world.store.extent(&room(name)).await.unwrap().head;
            assert_eq!((found.offset, found.epoch), (head, epoch), "{name}");
        }
        // The forgotten room comes back as a new one, and the next room makes way.
        world.advance(1);
        assert_eq!(world.submit(&room("b"), "new").await.unwrap(), gone.extent.head.at(1));
        let page = world.all(&room("b")).await;
        assert_eq!((page.items.len(), page.items[0].receipts.len()), (1, 0), "nothing of the old one");
        assert_eq!(world.store.extent(&room("c")).await.unwrap().head.offset, 0);
        assert_eq!((world.rows("rooms"), world.store.stats().evictions), (3, 2));
        world.store.sweep().await.unwrap();
        assert_eq!((world.rows("messages"), world.rows("receipts")), (4, 0), "of a: 2, d: 1, b: 1");
    }

    async fn a_room_with_members_is_not_forgotten_and_counts_as_used(mut world) {
        world.reopen(|settings, _| settings.max_rooms = 3);
        for name in ["a", "b", "c"] {
            world.append(&room(name), "1").await;
            world.advance(1);
        }
        for name in ["a", "b"] {
            world.occupy(&room(name)).await;
        }
        world.append(&room("d"), "1").await;
        assert_eq!(world.store.extent(&room("c")).await.unwrap().head.offset, 0);
        // The time of their last use was recorded.
        world.vacate().await;
        world.advance(1);
        world.append(&room("e"), "1").await;
        let heads = async |name| world.store.extent(&room(name)).await.unwrap().head.offset;
        assert_eq!(heads("a").await + heads("b").await + heads("d").await, 2, "one of those of the same moment");
        assert_eq!(heads("e").await, 1);
    }

    async fn who_begins_too_many_rooms_loses_its_own(mut world) {
        world.reopen(|settings, _| settings.max_rooms_per_sender = 2);
        let append = async |from: Option<SenderId>, name: &str| {
            world.advance(1);
            world.submit_from(from, &room(name), "1").await.map(|appended| appended.offset)
        };
        let (eve, joe) = (Some(sender("eve")), Some(sender("joe")));
        append(joe.clone(), "joes").await.unwrap();
        append(None, "backends").await.unwrap();
        for n in 0..50 {
            assert_eq!(append(eve.clone(), &format!("invented-{n}")).await, Ok(1));
            // A later writer does not count as having begun the room.
            assert_eq!(append(joe.clone(), &format!("invented-{n}")).await, Ok(2));
        }
        assert_eq!(world.rows("rooms"), 4, "two of eve's, and the others'");
        for name in ["joes", "backends", "invented-48", "invented-49"] {
            assert!(world.store.extent(&room(name)).await.unwrap().head.offset > 0, "{name}");
        }
        assert_eq!(world.store.stats().evictions, 48);
        for n in 0..5 {
            append(None, &format!("backends-{n}")).await.unwrap();
        }
        assert_eq!(world.rows("rooms"), 9);
        // Rooms that are forgotten by age no longer count.
        for _ in 0..2 {
            world.advance(200);
            world.store.sweep().await.unwrap();
        }
        assert_eq!((world.rows("rooms"), world.store.stats().evictions), (0, 48));
    }

    async fn who_has_begun_too_many_rooms_with_members_is_refused(mut world) {
        world.reopen(|settings, _| settings.max_rooms_per_sender = 2);
        for name in ["a", "b"] {
            world.submit_from(Some(sender("eve")), &room(name), "1").await.unwrap();
            world.occupy(&room(name)).await;
        }
        let refused = Err(StoreError::TooManyRoomsBegun { limit: 2 });
        assert_eq!(world.submit_from(Some(sender("eve")), &room("c"), "1").await, refused);
        assert_eq!(world.submit_from(Some(sender("joe")), &room("c"), "1").await.unwrap().offset, 1);
        assert_eq!(world.submit_from(Some(sender("eve")), &room("a"), "2").await.unwrap().offset, 2);
        assert_eq!(world.store.health(), Health::Working, "a refusal is no failure");
    }

    async fn an_emptied_room_makes_way_first(mut world) {
        world.reopen(|settings, _| settings.max_rooms = 2);
        world.append(&room("old"), "1").await;
        world.advance(100);
        world.store.sweep().await.unwrap();
        world.append(&room("new"), "1").await;
        world.append(&room("newer"), "1").await;
        assert_eq!(world.store.extent(&room("new")).await.unwrap().head.offset, 1);
        assert_eq!(world.store.extent(&room("old")).await.unwrap().head.offset, 0);
    }
}
