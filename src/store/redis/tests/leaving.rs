//! All nodes are stopped, and Redis with them.

use super::*;

/// A Redis that writes everything to its disk before it answers.
const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

fn restart(world: &World) {
    world.server.kill();
    world.server.start_again();
}

fn mark(world: &World) -> Option<String> {
    redis::cmd("HGET")
        .arg(format!("{PREFIX}:log"))
        .arg("clean")
        .query(&mut world.server.connection())
        .unwrap()
}

#[tokio::test]
async fn a_cluster_that_was_stopped_in_order_keeps_its_epochs() {
    let world = World::start_with(DURABLE);
    let (one, other) = (world.node(), world.node());
    let before = world.append(&one, "1").await;
    world.append(&other, "2").await;
    one.close().await;
    assert_eq!(mark(&world), None, "another node goes on");
    world.append(&other, "3").await;
    other.close().await;
    assert!(mark(&world).is_some());
    restart(&world);
    let (one, other) = (world.node(), world.node());
    assert_eq!(one.extent(&room("a")).await.unwrap().head, before.at(3));
    assert_eq!(mark(&world), None, "whoever comes removes it");
    assert_eq!(world.append(&other, "4").await, before.at(4));
    assert_eq!(ids(&one).await, ["1", "2", "3", "4"]);
    // Once more, now both at once.
    tokio::join!(one.close(), other.close());
    restart(&world);
    assert_eq!(world.append(&world.node(), "5").await, before.at(5));
}

#[tokio::test]
async fn a_cluster_whose_redis_goes_on_keeps_its_epochs_in_any_case() {
    let world = World::start();
    let one = world.node();
    let before = world.append(&one, "1").await;
    one.close().await;
    assert_eq!(mark(&world), None, "this Redis writes nothing to a disk");
    assert_eq!(world.append(&world.node(), "2").await, before.at(2));
    let world = World::start_with(DURABLE);
    let one = world.node();
    let before = world.append(&one, "1").await;
    one.close().await;
    assert_eq!(world.append(&world.node(), "2").await, before.at(2));
}

/// Appends with a node that then dies with its runtime.
fn append_and_crash(world: &World, id: &str) -> Position {
    let dies = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { world.append(&world.node(), id).await })
    };
    std::thread::scope(|scope| scope.spawn(dies).join().unwrap())
}

#[tokio::test]
async fn a_node_that_crashes_leaves_no_mark() {
    let world = World::start_with(DURABLE);
    let before = append_and_crash(&world, "1");
    assert_eq!(mark(&world), None);
    restart(&world);
    let one = world.node();
    let after = world.append(&one, "2").await;
    assert_eq!(after.offset, 2);
    assert_ne!(after.epoch, before.epoch);
    // While Redis goes on, nothing is lost by a crash: the last node may leave the mark.
    append_and_crash(&world, "3");
    one.close().await;
    assert!(mark(&world).is_some());
    restart(&world);
    assert_eq!(world.append(&world.node(), "4").await, after.at(4));
}

#[tokio::test]
async fn a_mark_is_not_trusted_with_another_number() {
    let world = World::start_with(DURABLE);
    let one = world.node();
    let before = world.append(&one, "1").await;
    one.close().await;
    let clean = mark(&world).unwrap();
    let one = world.node();
    world.append(&one, "2").await;
    one.close().await;
    world.server.command(&format!("HSET {PREFIX}:log clean {clean}"));
    restart(&world);
    assert_ne!(world.append(&world.node(), "3").await.epoch, before.epoch);
}

/// The mark may come back once more with a disk that did not know it was gone.
#[tokio::test]
async fn without_a_disk_that_can_be_waited_for_a_mark_is_not_trusted() {
    let world = World::start_with(DURABLE);
    let one = world.node();
    let before = world.append(&one, "1").await;
    one.close().await;
    assert!(mark(&world).is_some());
    world.server.command("CONFIG SET appendonly no");
    let after = world.append(&world.node(), "2").await;
    assert_eq!((after.offset, mark(&world)), (2, None));
    assert_ne!(after.epoch, before.epoch);
}

#[tokio::test]
async fn a_node_that_cannot_be_asked_for_forbids_the_mark() {
    let world = World::start_with(DURABLE);
    let one = world.node();
    world.append(&one, "1").await;
    let mut former = world.server.connection();
    redis::cmd("CLIENT").arg("SETNAME").arg("roomcast-former").exec(&mut former).unwrap();
    one.close().await;
    assert_eq!(mark(&world), None, "a node of a former version may still write");
}

#[tokio::test]
async fn nodes_that_are_gone_do_not_stay_in_the_registry() {
    let world = World::start_with(DURABLE);
    let registered = || {
        let nodes = format!("{PREFIX}:log:nodes");
        redis::cmd("HLEN").arg(nodes).query::<u64>(&mut world.server.connection()).unwrap()
    };
    let stays = world.node();
    world.append(&stays, "1").await;
    for _ in 0..5 {
        let goes = world.node();
        world.append(&goes, "n").await;
        goes.close().await;
    }
    assert!(registered() <= 3, "those that leave take out those who have left: {}", registered());
    stays.close().await;
    assert_eq!(registered(), 0);
}
