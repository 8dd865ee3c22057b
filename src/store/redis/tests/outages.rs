//! Redis goes away, hangs or refuses, and comes back.

use super::*;

#[tokio::test]
async fn a_node_starts_without_redis_and_goes_on_once_it_is_there() {
    let world = World::start();
    world.server.kill();
    let node = world.node();
    let reason = until_failing(&node).await;
    assert!(is_unavailable(&world.submit(&node, "1").await), "{reason}");
    assert!(is_unavailable(&node.extent(&room("a")).await));
    assert!(is_unavailable(&node.queue_len(&user("ann")).await));
    world.server.start_again();
    until_working(&node).await;
    assert_eq!(world.append(&node, "2").await.offset, 1);
}

#[tokio::test]
async fn a_lost_connection_is_made_again() {
    let world = World::start();
    let node = world.node();
    let mut appended = 0;
    for n in 0..20 {
        world.server.command("CLIENT KILL TYPE normal");
        // Every append is answered, stored or refused; none hangs.
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
    // The late ones may have been stored or not; if they were, they are in order.
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
async fn a_redis_that_is_full_takes_nothing_new_and_lets_go_of_what_is_old() {
    let world = World::start();
    let node = world.node();
    world.append(&node, "1").await;
    let queue = |who: &str| node.enqueue(user(who), Some(sender("eve")), world.entry("q"), None);
    let first = queue("ann").await.unwrap();
    queue("ann").await.unwrap();
    queue("bob").await.unwrap();
    world.server.command("CONFIG SET maxmemory 1");
    assert!(is_unavailable(&world.submit(&node, "2").await));
    let append = Append {
        room: room("new"),
        entry: world.entry("m"),
        except: Except::nobody(),
        sender: None,
        webhook: None,
    };
    assert!(is_unavailable(&node.append(append).await), "also not a first message");
    assert!(is_unavailable(&queue("zoe").await));
    let claimed = node.claim_queue(&user("ann"), "node", Duration::from_mins(1)).await;
    assert_eq!(claimed, Ok(true), "what waits can be delivered, which makes room");
    assert_eq!(node.confirm(user("ann"), first, "node").await, Ok(Some(1)));
    world.clock.fetch_add(200_000, SeqCst);
    node.sweep().await.unwrap();
    assert_eq!(world.server.rows(PREFIX, "messages"), 0);
    assert_eq!(world.server.rows(PREFIX, "queue"), 0);
    assert!(matches!(node.health(), Health::Failing { .. }));
    world.server.command("CONFIG SET maxmemory 0");
    until_working(&node).await;
    assert_eq!(world.append(&node, "3").await.offset, 2);
}

#[tokio::test]
async fn no_password_is_shown() {
    let client = redis::Client::open("redis://me:hunter2@127.0.0.1:1/").unwrap();
    let settings = RedisSettings {
        primaries: vec![client.into()],
        replicas: 0,
        prefix: PREFIX.into(),
        node: "n".into(),
    };
    assert!(!format!("{settings:?}").contains("hunter2"));
    let clock = Arc::new(AtomicI64::new(0));
    let store = Store::redis(&embedded_settings(Location::Memory, &clock), &settings);
    assert!(store.is_shared());
    assert!(!format!("{store:?}").contains("hunter2"));
    let reason = until(
        &store,
        |health| matches!(health, Health::Failing { reason, .. } if !reason.contains("not connected yet")),
    );
    assert!(!format!("{:?}", reason.await).contains("hunter2"));
}

#[tokio::test]
async fn a_primary_that_becomes_a_replica_is_left_and_found_again() {
    let world = World::start();
    let node = world.node();
    let before = world.append(&node, "1").await;
    // A replica of nobody is a replica, too.
    world.server.command("REPLICAOF 127.0.0.1 1");
    assert!(is_unavailable(&world.submit(&node, "2").await));
    let reason = until_failing(&node).await;
    assert!(reason.contains("read only replica"), "{reason}");
    world.server.command("REPLICAOF NO ONE");
    until_working(&node).await;
    assert_eq!(world.append(&node, "3").await, before.at(2));
}

#[tokio::test]
async fn a_redis_cluster_is_refused_by_name() {
    let server = RedisServer::start_with(&["--cluster-enabled", "yes"]);
    let clock = Arc::new(AtomicI64::new(0));
    let settings = embedded_settings(Location::Memory, &clock);
    let store = Store::redis(&settings, &server.settings(PREFIX));
    let reason = until(
        &store,
        |health| matches!(health, Health::Failing { reason, .. } if reason.contains("Redis Cluster")),
    );
    reason.await;
}
