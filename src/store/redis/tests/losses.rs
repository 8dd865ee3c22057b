//! Redis comes back with less than it had, or with nothing.

use super::{connections::Seen, *};

#[tokio::test]
async fn a_restart_that_loses_nothing_goes_on_with_the_same_epoch() {
    let world = World::start();
    let (one, other) = (world.node(), world.node());
    let before = world.append(&one, "1").await;
    world.append(&other, "2").await;
    one.enqueue(user("ann"), None, world.entry("q"), None).await.unwrap();
    world.server.command("SAVE");
    world.server.kill();
    for node in [&one, &other] {
        until_failing(node).await;
        assert!(is_unavailable(&world.submit(node, "lost").await));
        assert!(is_unavailable(&node.read(&room("a"), ALL).await));
    }
    world.server.start_again();
    // The scripts were lost with the old process.
    for node in [&one, &other] {
        until_working(node).await;
    }
    assert_eq!(world.append(&one, "3").await, before.at(3));
    assert_eq!(world.append(&other, "4").await, before.at(4));
    assert_eq!(ids(&other).await, ["1", "2", "3", "4"]);
    assert_eq!(other.queue_len(&user("ann")).await, Ok(1));
}

#[tokio::test]
async fn a_restart_that_loses_something_changes_every_epoch() {
    let world = World::start();
    let (one, other) = (world.node(), world.node());
    let before = world.append(&one, "1").await;
    let unwritten = one.extent(&room("b")).await.unwrap().head.epoch;
    world.append(&other, "seen by both").await;
    world.server.command("SAVE");
    assert_eq!(world.append(&one, "lost").await, before.at(3));
    world.server.kill();
    // Both nodes, so that neither mistakes the old connection for a new one.
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
    assert_eq!(one.extent(&room("a")).await.unwrap().head.epoch, after.epoch);
    assert_ne!(one.extent(&room("b")).await.unwrap().head.epoch, unwritten);
    assert_eq!(ids(&one).await, ["1", "seen by both", "new"]);
    // Both have checked in, and the epoch changed only once.
    assert_eq!(world.append(&one, "newer").await, after.at(4));
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
    assert_eq!(committed.position, before.at(3));
    // The node that wrote it ends together with Redis.
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
        assert_eq!(other.extent(&room("a")).await.unwrap().head.epoch, appended.epoch);
        assert!(!epochs.contains(&appended.epoch));
        epochs.push(appended.epoch);
        places.push(other.enqueue(user("ann"), None, world.entry("q"), None).await.unwrap());
        world.server.command("FLUSHALL");
        assert_eq!(one.queue_len(&user("ann")).await, Ok(0));
        let emptied = other.extent(&room("a")).await.unwrap();
        assert_eq!((emptied.head.offset, emptied.oldest), (0, 1));
        assert!(!epochs.contains(&emptied.head.epoch));
    }
    assert!(places.is_sorted_by(|one, next| one < next), "no place is used again: {places:?}");
    assert_eq!(one.health(), Health::Working);
}

#[tokio::test]
async fn who_knows_nothing_of_the_time_before_a_restart_trusts_nothing() {
    let world = World::start();
    let one = world.node();
    let before = world.append(&one, "1").await;
    let newcomer = world.node();
    assert_eq!(
        newcomer.extent(&room("a")).await.unwrap().head.epoch,
        before.epoch,
        "Redis went on"
    );
    world.server.command("SAVE");
    one.close().await;
    newcomer.close().await;
    world.server.kill();
    world.server.start_again();
    // No node is left that could tell whether something was lost.
    let after = world.append(&world.node(), "2").await;
    assert_eq!(after.offset, 2);
    assert_ne!(after.epoch, before.epoch);
    assert_eq!(world.append(&world.node(), "3").await.epoch, after.epoch);
}

#[tokio::test]
async fn who_knows_nothing_trusts_no_log_that_began_when_redis_was_emptied() {
    let world = World::start();
    let one = world.node();
    world.append(&one, "1").await;
    world.server.command("FLUSHALL");
    let before = world.append(&one, "2").await;
    world.server.command("SAVE");
    assert_eq!(world.append(&one, "lost").await, before.at(2));
    one.close().await;
    world.server.kill();
    world.server.start_again();
    assert_ne!(world.append(&world.node(), "3").await.epoch, before.epoch);
}

#[test]
fn what_was_seen_of_another_run_does_not_count() {
    let seen = Seen::default();
    seen.check_in("one");
    assert!(!seen.note("one", 7), "it is not checked in");
    seen.checked_in("one");
    assert!(seen.note("one", 5));
    assert!(!seen.note("two", 9));
    assert!(seen.note("one", 3));
    assert_eq!(seen.check_in("two"), ("one".to_owned(), 5));
    assert!(!seen.note("one", 6), "the run that follows does not hear of it");
    seen.checked_in("two");
    assert!(!seen.note("one", 9));
    assert_eq!(seen.check_in("two"), ("two".to_owned(), 5));
}
