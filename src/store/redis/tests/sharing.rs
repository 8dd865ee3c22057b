//! Several nodes, and what bounds each.

use super::*;

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
        assert_eq!((committed.position.offset, &committed.entry.id), (offset, &id));
    }
    assert_eq!(one.committed(room("a"), b"garbage").unwrap_err(), DecodeError);
}

#[tokio::test]
async fn too_many_waiting_writes_are_refused_and_the_others_keep_their_order() {
    let world = World::start();
    let node = world.tuned(|tuning| tuning.limits = Limits { commands: 5, bytes: 50_000 });
    until_working(&node).await;
    // The writer takes nothing before this task waits.
    let pending: Vec<_> = (0..8).map(|n| world.submit(&node, &n.to_string())).collect();
    let mut results = Vec::new();
    for pending in pending {
        results.push(pending.await.map(|appended| appended.offset).ok());
    }
    assert_eq!(results, [Some(1), Some(2), Some(3), Some(4), Some(5), None, None, None]);
    let large = Entry { json: "x".repeat(60_000).into(), ..world.entry("large") };
    let large = Append {
        room: room("a"),
        entry: large,
        except: Except::nobody(),
        sender: None,
        webhook: None,
    };
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
async fn only_the_one_who_has_the_claim_confirms() {
    let world = World::start();
    let (one, other) = (world.node(), world.node());
    let (ann, long) = (user("ann"), Duration::from_mins(1));
    let place = one.enqueue(ann.clone(), None, world.entry("1"), None).await.unwrap();
    assert_eq!(one.confirm(ann.clone(), place, "one").await, Ok(None), "nobody has the claim");
    assert_eq!(other.claim_queue(&ann, "other", long).await, Ok(true));
    assert_eq!(one.confirm(ann.clone(), place, "one").await, Ok(None));
    assert_eq!(one.queue_len(&ann).await, Ok(1));
    assert_eq!(other.confirm(ann.clone(), place, "other").await, Ok(Some(1)));
    assert_eq!(one.queue_len(&ann).await, Ok(0));
}

#[tokio::test]
async fn several_nodes_sweep_and_a_forgotten_room_is_forgotten_once() {
    let mut world = World::start();
    let now = Arc::new(AtomicI64::new(1_000_000));
    world.settings = embedded_settings(Location::Memory, &now);
    let nodes = [world.node(), world.node(), world.node()];
    let first = world.append(&nodes[0], "0").await;
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
    let emptied = nodes[1].extent(&room("a")).await.unwrap();
    assert_eq!((emptied.head, emptied.oldest), (first.at(300), 301));
    sweep().await;
    assert_eq!(world.server.rows(PREFIX, "rooms"), 0);
    let forgotten = world.server.command("HVALS test:log:forgotten");
    assert_eq!(forgotten, Value::Array(vec![Value::BulkString(b"1".to_vec())]));
    // Only keys are left (the log, its nodes, the forgotten) that do not grow with the number of rooms.
    let Value::Array(mut keys) = world.server.command("KEYS test:*") else { panic!("no array") };
    keys.retain(|key| *key != Value::BulkString(b"test:ping".to_vec()));
    assert_eq!(keys.len(), 3, "{keys:?}");
}

#[tokio::test]
async fn the_nodes_sweep_by_themselves() {
    let mut world = World::start();
    let now = Arc::new(AtomicI64::new(1_000_000));
    world.settings = embedded_settings(Location::Memory, &now);
    let often = |tuning: &mut Tuning| tuning.sweep_every = Duration::from_millis(10);
    let nodes = [world.tuned(often), world.tuned(often)];
    world.append(&nodes[0], "1").await;
    nodes[0].enqueue(user("ann"), Some(sender("eve")), world.entry("q"), None).await.unwrap();
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
async fn an_entry_without_a_word_of_who_is_left_out_leaves_nobody_out() {
    let world = World::start();
    let node = world.node();
    let left_out = Except { users: vec![user("ann")], ..Except::nobody() };
    let append = Append {
        room: room("a"),
        entry: world.entry("1"),
        except: left_out.clone(),
        sender: None,
        webhook: None,
    };
    let _ = node.append(append).await.unwrap();
    world.append(&node, "2").await;
    // Without the field, as the former version wrote it.
    let Value::Int(fields) = world.server.command("EVAL return(#redis.call('XREVRANGE',KEYS[1],'+','-','COUNT',1)[1][2]) 1 test:stream:/\u{1f}a") else {
        panic!("no number");
    };
    assert_eq!(fields, 2);
    let page = node.read(&room("a"), ALL).await.unwrap();
    let read: Vec<_> = page.items.into_iter().map(|item| item.except).collect();
    assert_eq!(read, [left_out, Except::nobody()]);
}
