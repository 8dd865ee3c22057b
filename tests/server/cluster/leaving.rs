//! A whole cluster is stopped and started again, as `docker compose stop` and `start` do: first the nodes, then Redis.

use serde_json::{Value, json};

use super::{eventually, management::node, offset_of};
use crate::support::{TestClient, process::ServerProcess, redis::RedisServer};

/// Two nodes over a Redis, each with a member of the room `r`, and what the members know of its history.
struct Before {
    nodes: [ServerProcess; 2],
    members: [TestClient; 2],
    epoch: Value,
    offset: u64,
}

/// A node that is ready.
async fn started(redis: &RedisServer) -> ServerProcess {
    let node = node(redis).await;
    let url = format!("http://{}/health/ready", node.address());
    eventually("it is ready", async || reqwest::get(&url).await.unwrap().status() == 200).await;
    node
}

async fn talk(redis: &RedisServer) -> Before {
    let nodes = [started(redis).await, started(redis).await];
    let mut members = [nodes[0].connecting().join().await, nodes[1].connecting().join().await];
    let mut epoch = Value::Null;
    for member in &mut members {
        let ack = member.ask("join-room", json!("r")).await;
        assert_eq!((&ack["success"], &ack["offset"]), (&json!(true), &json!(0)), "{ack}");
        epoch = ack["epoch"].clone();
    }
    let mut offset = 0;
    for n in 1..=6 {
        let ack = members[n % 2].ask("message", json!({"roomName": "r", "n": n})).await;
        offset = offset_of(&ack);
    }
    assert_eq!(offset, 6);
    Before { nodes, members, epoch, offset }
}

/// Whether Redis holds the mark of a cluster that was stopped in order.
fn is_marked(redis: &RedisServer) -> bool {
    redis.command::<i64>("HEXISTS roomcast:log clean") == 1
}

/// A member that saw the first `offset` messages comes back to this node: its acknowledgement.
async fn come_back(node: &ServerProcess, offset: u64, epoch: &Value) -> (TestClient, Value) {
    let mut client = node.connecting().join().await;
    let wish = json!({"roomName": "r", "offset": offset, "epoch": epoch});
    let ack = client.ask("join-room", wish).await;
    (client, ack)
}

#[tokio::test]
async fn clients_recover_from_a_whole_cluster_that_was_stopped_in_order() {
    let mut redis = RedisServer::persistent();
    let Before { nodes: [one, other], members: [ann, ben], epoch, mut offset } = talk(&redis).await;
    // The clients stay until the nodes end their connections.
    let stopped = tokio::join!(one.terminate(), other.terminate(), ann.ended(), ben.ended());
    assert_eq!((stopped.0, stopped.1), (Some(0), Some(0)));
    for round in 1..=2_u64 {
        assert!(is_marked(&redis), "round {round}: the last node leaves the mark");
        redis.stop();
        redis.restart();
        let nodes = [started(&redis).await, started(&redis).await];
        assert!(!is_marked(&redis), "round {round}: the first node removes the mark");
        for node in &nodes {
            let (client, ack) = come_back(node, offset - 3, &epoch).await;
            assert_eq!(
                (&ack["recovered"], &ack["missed"], &ack["epoch"]),
                (&json!(true), &json!(3), &epoch),
                "round {round}: {ack}"
            );
            let missed = client.arrived("message-reply").iter().map(offset_of).collect::<Vec<_>>();
            assert_eq!(missed, [offset - 2, offset - 1, offset]);
        }
        let (mut client, _) = come_back(&nodes[1], offset, &epoch).await;
        let ack = client.ask("message", json!({"roomName": "r", "n": "after"})).await;
        offset += 1;
        assert_eq!(offset_of(&ack), offset, "the numbers go on");
        // One after the other: the second one is the last.
        let [one, other] = nodes;
        assert_eq!(one.terminate().await, Some(0));
        assert!(!is_marked(&redis), "round {round}: another node is there");
        assert_eq!(other.terminate().await, Some(0));
    }
}

#[tokio::test]
async fn a_cluster_whose_last_node_was_killed_begins_new_epochs() {
    let mut redis = RedisServer::persistent();
    let Before { nodes: [one, other], members, epoch, offset } = talk(&redis).await;
    assert_eq!(one.terminate().await, Some(0));
    other.kill().await;
    drop(members);
    assert!(!is_marked(&redis), "a killed node leaves no mark");
    redis.stop();
    redis.restart();
    let node = started(&redis).await;
    let (mut client, ack) = come_back(&node, offset - 1, &epoch).await;
    assert_eq!((&ack["success"], &ack["recovered"]), (&json!(true), &json!(false)), "{ack}");
    assert_ne!(ack["epoch"], epoch, "nobody can tell whether Redis has everything");
    assert!(client.arrived("message-reply").is_empty(), "nothing is replayed");
    // What Redis has can still be read, and a stop in order keeps the new epoch.
    let page = client.ask("syncMessages", json!({"roomId": "r", "offset": 0})).await;
    assert_eq!(
        (&page["success"], &page["syncedMessageCount"]),
        (&json!(true), &json!(6)),
        "{page}"
    );
    let epoch = ack["epoch"].clone();
    let stopped = tokio::join!(node.terminate(), client.ended());
    assert_eq!(stopped.0, Some(0));
    assert!(is_marked(&redis));
    redis.stop();
    redis.restart();
    let node = started(&redis).await;
    let (_client, ack) = come_back(&node, offset - 1, &epoch).await;
    assert_eq!((&ack["recovered"], &ack["missed"]), (&json!(true), &json!(1)), "{ack}");
    node.kill().await;
}
