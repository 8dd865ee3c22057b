//! The list of instances changes: which rooms are whose then, and which nodes.

use std::collections::HashSet;

use super::{
    shards::{Servers, layout, rooms, stale_rooms},
    *,
};
use crate::store::{Announcement, Fact};

async fn refused(node: &Store) -> String {
    node.check().await.unwrap_err()
}

#[tokio::test]
async fn an_added_instance_gets_its_share_and_all_other_rooms_go_on() {
    let servers = Servers::start(3);
    let rooms = rooms(60);
    let alone = servers.node(&[0]);
    let mut before = servers.fill(&alone, &rooms, "1").await;
    alone.close().await;
    let mut known =
        before.iter().map(|position| HashSet::from([position.epoch])).collect::<Vec<_>>();
    // To two, to three, back to two, and to three again.
    for (step, (was, count)) in [(1, 2), (2, 3), (3, 2), (2, 3), (3, 1)].into_iter().enumerate() {
        let node = servers.node(&(0..count).collect::<Vec<_>>());
        let after = servers.fill(&node, &rooms, &format!("step {step}")).await;
        for (at, room) in rooms.iter().enumerate() {
            if room.instance(was) == room.instance(count) {
                assert_eq!(after[at], before[at].at(before[at].offset + 1), "{step}: it stayed");
            } else {
                // The third instance has missed a list: what it has is kept, under other epochs.
                let kept = u64::from(step == 3);
                assert_eq!(after[at].offset, kept + 1, "{step}: it moved");
                assert!(known[at].insert(after[at].epoch), "{step}: an epoch of before");
            }
        }
        servers.until_tidy(&[0, 1, 2][..count], &rooms).await;
        before = after;
        node.close().await;
    }
}

/// Whether it was left out of the list, or another server stood in its place.
#[tokio::test]
async fn an_instance_that_missed_a_list_begins_anew() {
    for between in [&[0][..], &[0, 2]] {
        let servers = Servers::start(3);
        let rooms = rooms(30);
        let mut seen = Vec::<Vec<Position>>::new();
        for list in [&[0, 1], between, &[0, 1]] {
            let node = servers.node(list);
            let positions = servers.fill(&node, &rooms, "m").await;
            servers.until_tidy(list, &rooms).await;
            node.close().await;
            seen.push(positions);
        }
        for (at, room) in rooms.iter().enumerate() {
            let [first, meanwhile, again] = [0, 1, 2].map(|list| seen[list][at]);
            if room.instance(2) == 0 {
                assert_eq!((meanwhile, again), (first.at(2), first.at(3)));
            } else {
                // It was written elsewhere meanwhile: its old epoch would have a gap that nobody sees.
                assert_ne!(again.epoch, first.epoch, "{room:?}");
                assert_ne!(again.epoch, meanwhile.epoch, "{room:?}");
            }
        }
    }
}

#[tokio::test]
async fn rooms_that_were_not_forgotten_in_time_get_new_epochs() {
    let servers = Servers::start(2);
    let rooms = rooms(30);
    let node = servers.node(&[0, 1]);
    let before = servers.fill(&node, &rooms, "1").await;
    servers.until_tidy(&[0, 1], &rooms).await;
    node.close().await;
    // As if it had been stopped before all rooms that had moved away were forgotten.
    servers.all[0].command(&format!("HDEL {PREFIX}:log tidy"));
    let alone = servers.node(&[0]);
    let after = servers.fill(&alone, &rooms, "2").await;
    for (before, after) in before.iter().zip(&after) {
        assert_ne!(before.epoch, after.epoch);
    }
}

#[tokio::test]
async fn a_node_that_stood_still_while_the_list_changed_is_refused() {
    let servers = Servers::start(2);
    let late = servers.node(&[0]);
    let rooms = rooms(30);
    servers.fill(&late, &rooms, "1").await;
    // It has no lease, so it counts for dead; the other one has.
    servers.all[0].command(&format!("ZADD {PREFIX}:nodes 9999999999999 node-1"));
    let node = servers.node(&[0, 1]);
    servers.fill(&node, &rooms, "2").await;
    for room in &rooms {
        let refused = late.append(servers.append(room, "late")).await;
        assert!(is_unavailable(&refused), "{refused:?}");
    }
    let waited = until(
        &late,
        |health| matches!(health, Health::Failing { reason, .. } if reason.contains("the running nodes (1) has 2")),
    );
    waited.await;
    tokio::time::timeout(Duration::from_secs(20), late.expelled()).await.unwrap();
    for room in &rooms {
        assert!(node.find_by_message_id(room, "late").await.unwrap().is_none());
    }
    assert_eq!(node.check().await, Ok(()));
}

#[tokio::test]
async fn a_list_that_does_not_fit_is_refused_with_what_is_to_be_done() {
    let servers = Servers::start(4);
    let node = servers.node(&[0, 1]);
    servers.fill(&node, &rooms(30), "1").await;
    servers.all[0].command(&format!("ZADD {PREFIX}:nodes 9999999999999 node-0"));
    let why = refused(&servers.node(&[0, 1, 2])).await;
    assert!(why.contains("the list has 3, and that of the running nodes (1) has 2"), "{why}");
    let why = refused(&servers.node(&[0, 2])).await;
    assert!(why.contains("other addresses than that of the running nodes (1)"), "{why}");
    assert_eq!(servers.node(&[0, 1]).check().await, Ok(()));
    let why = refused(&servers.node(&[1, 0])).await;
    assert!(why.contains("was instance 2: list them in the same order on all nodes"), "{why}");
    servers.all[0].command(&format!("ZREM {PREFIX}:nodes node-0"));
    node.close().await;
    let why = refused(&servers.node(&[1, 0, 2])).await;
    assert!(why.contains("instance 1 of the list was instance 2"), "{why}");
    assert!(why.contains("HDEL test:log layout seed run on this instance"), "{why}");
    for server in &servers.all[..2] {
        server.command(&format!("HDEL {PREFIX}:log layout seed run"));
    }
    let turned = servers.node(&[1, 0]);
    assert_eq!(turned.check().await, Ok(()));
    turned.close().await;
    let alone = servers.node(&[3]);
    servers.fill(&alone, &rooms(1), "1").await;
    alone.close().await;
    let why = refused(&servers.node(&[2, 3])).await;
    assert!(why.contains("instance 2 of the list was in use alone"), "{why}");
    assert_eq!(servers.all[3].rows(PREFIX, "rooms"), 1, "nothing of it was touched");
    let why = refused(&servers.node(&[2, 2])).await;
    assert!(why.contains("instance 2 of the list is instance 1 already"), "{why}");
}

/// The first one came back with less than it had, and without its list.
#[tokio::test]
async fn an_instance_is_never_told_an_older_list_than_before() {
    let servers = Servers::start(2);
    let node = servers.node(&[0, 1]);
    let rooms = rooms(20);
    let before = servers.fill(&node, &rooms, "1").await;
    servers.until_tidy(&[0, 1], &rooms).await;
    let newer = Value::BulkString("5000000000000000".into());
    servers.all[1].command(&format!("HSET {PREFIX}:log layout 5000000000000000"));
    // The generation that was lost is followed by another one, of which both know.
    let waited = async {
        while layout(&servers.all[0], "layout") != layout(&servers.all[1], "layout") {
            let found = layout(&servers.all[1], "layout");
            let next = Value::BulkString("5000000000000001".into());
            assert!(found == newer || found == next, "{found:?}");
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.unwrap();
    until_working(&node).await;
    until(&node, |_| node.failing_instances().is_empty()).await;
    assert_eq!(node.check().await, Ok(()));
    for (room, before) in rooms.iter().zip(&before) {
        let after = node.append(servers.append(room, "2")).await.unwrap();
        assert_eq!(after.offset, 2);
        assert_eq!(after.epoch == before.epoch, room.instance(2) == 0, "{room:?}");
    }
}

#[tokio::test]
async fn what_the_backend_was_told_of_rooms_moves_with_them() {
    let servers = Servers::start(2);
    let rooms = rooms(20);
    let node = servers.node(&[0]);
    for room in &rooms {
        let fact = Some((Fact::Room(room.clone()), true));
        let about = Some(room.clone());
        node.announce(Announcement { webhook: None, fact, sender: None, room: about });
    }
    // Behind all of these.
    servers.fill(&node, &rooms[..1], "m").await;
    node.close().await;
    let node = servers.node(&[0, 1]);
    // Those that have moved are found where they are now.
    let mut stale = HashSet::new();
    for fact in stale_rooms(&node).await {
        let Fact::Room(room) = fact else { panic!("{fact:?}") };
        assert!(stale.insert(room), "it is found once");
    }
    assert_eq!(stale, rooms.iter().cloned().collect());
    let told = format!("SCARD {PREFIX}:told:room");
    for (place, server) in servers.all.iter().enumerate() {
        let own = rooms.iter().filter(|room| room.instance(2) == place).count();
        assert_eq!(server.command(&told), Value::Int(i64::try_from(own).unwrap()));
    }
}
