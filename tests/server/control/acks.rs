//! Events that clients acknowledge, and events with several arguments.

use roomcast::config::Environment;
use serde_json::{Value, json};

use super::World;
use crate::support::{Event, TestClient, TestServer};

/// Answers an event with these arguments, in JSON.
async fn acknowledge(client: &mut TestClient, event: &Event, arguments: &str) {
    client
        .send_frame(&format!("43{}{arguments}", event.ack.expect("no acknowledgement is asked")))
        .await;
}

/// What clients have answered, in the order of the clients.
fn sorted(mut answer: Value) -> Value {
    for list in ["responses", "timedOut"] {
        answer[list].as_array_mut().unwrap().sort_by_key(ToString::to_string);
    }
    answer
}

fn responses(mut pairs: Vec<(&str, Value)>) -> Value {
    pairs.sort_unstable_by_key(|(id, _)| (*id).to_owned());
    let shown = |(id, args)| json!({"clientId": id, "args": args});
    pairs.into_iter().map(shown).collect()
}

#[tokio::test]
async fn the_answer_holds_what_the_clients_of_all_nodes_acknowledged() {
    for world in World::both(|_| {}).await {
        let mut ann = world.connecting().join().await;
        let mut ben = super::Connecting::to(world.first().address()).join().await;
        let mut silent = world.connecting().join().await;
        let mut outsider = world.connecting().join().await;
        for client in [&mut ann, &mut ben, &mut silent] {
            client.join("r").await;
        }
        ann.authenticate("ann").await;
        let body = json!({
            "event": "vote", "data": {"id": "v1", "of": 1}, "rooms": ["r"], "users": ["ann"],
            "ack": {"timeoutMs": 1500},
        });
        let asked = world.first().post("/events", &body);
        let answered = async {
            let event = ann.next_event("vote").await;
            assert_eq!(event.data, json!({"id": "v1", "of": 1}), "without an offset");
            acknowledge(&mut ann, &event, r#"[{"yes":true},2]"#).await;
            let event = ben.next_event("vote").await;
            acknowledge(&mut ben, &event, "[]").await;
            // Only the first answer counts, and only one's own.
            acknowledge(&mut ben, &event, "[1]").await;
            silent.next_event("vote").await;
            silent.send_frame("4399[\"another\"]").await;
        };
        let (answer, ()) = tokio::join!(asked, answered);
        assert_eq!(
            sorted(answer.expect(200)),
            json!({
                "id": "v1",
                "responses": responses(vec![(&ann.id, json!([{"yes": true}, 2])), (&ben.id, json!([]))]),
                "timedOut": [silent.id],
            })
        );
        assert!(ann.all("vote").await.is_empty(), "once, though it is meant twice");
        assert!(outsider.all("vote").await.is_empty());
        // Nothing of it is kept.
        let kept = world.first().get("/rooms/r/messages").await.expect(200);
        assert_eq!(kept["items"], json!([]));
    }
}

#[tokio::test]
async fn a_client_that_goes_is_not_waited_for() {
    for world in World::both(|_| {}).await {
        let mut ann = world.connecting().join().await;
        let id = ann.id.clone();
        let body = json!({"event": "q", "clients": [id], "ack": {"timeoutMs": 30_000}});
        let asked = world.first().post("/events", &body);
        let goes = async {
            ann.next_event("q").await;
            ann.disconnect().await;
        };
        let (answer, ()) = tokio::join!(asked, goes);
        let answer = answer.expect(200);
        assert_eq!((&answer["responses"], &answer["timedOut"]), (&json!([]), &json!([id])));
        let nobody = json!({"event": "q", "users": ["nobody"], "ack": {"timeoutMs": 30_000}});
        let answer = world.first().post("/events", &nobody).await.expect(200);
        assert_eq!((&answer["responses"], &answer["timedOut"]), (&json!([]), &json!([])));
        assert!(answer["id"].is_string());
    }
}

#[tokio::test]
async fn several_arguments_go_out_and_come_back_with_binary_values() {
    for world in World::both(|_| {}).await {
        let mut client = world.connecting().join().await;
        let mut witness = world.connecting().join().await;
        witness.join("r").await;
        let args = json!([1, {"b": {"$binary": "AQI="}}, {"$literal": {"$binary": "no"}}, null]);
        let body = json!({
            "event": "several", "args": args, "clients": [client.id], "ack": {"timeoutMs": 5000},
        });
        let asked = world.first().post("/events", &body);
        let answered = async {
            let event = client.next_event("several").await;
            let hole = json!({"_placeholder": true, "num": 0});
            let wanted = json!([1, {"b": hole}, {"$binary": "no"}, null]);
            assert_eq!(json!(event.arguments), wanted);
            assert_eq!(event.attachments, [vec![1, 2]]);
            let id = event.ack.unwrap();
            let answer = r#"[{"_placeholder":true,"num":0},{"$binary":"x"}]"#;
            client.send_frame(&format!("461-{id}{answer}")).await;
            client.send_binary(&[255]).await;
        };
        let (answer, ()) = tokio::join!(asked, answered);
        let wanted = json!([{"$binary": "/w=="}, {"$literal": {"$binary": "x"}}]);
        assert_eq!(answer.expect(200)["responses"][0]["args"], wanted);

        // Without acknowledgements, to a room on every node; none of them is kept.
        for args in [json!([]), json!([[1], "two", 3]), json!([{"n": 1}])] {
            let body = json!({"event": "several", "args": args, "rooms": ["r"]});
            let sent = world.first().post("/events", &body).await.expect(201);
            assert_eq!((&sent["offsets"], &sent["queued"]), (&json!({}), &json!([])));
            assert_eq!(json!(witness.next_event("several").await.arguments), args);
        }
    }
}

#[tokio::test]
async fn an_acknowledgement_is_bounded() {
    let server = TestServer::one_node(|config| {
        config.environment = Environment::Development;
        config.max_payload = 3_000_000;
        config.send_buffer = 40_000_000;
        config.announce_connections = false;
    })
    .await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = server.client().await;
        client.join("r").await;
        clients.push(client);
    }
    let large = format!("[\"{}\"]", "x".repeat(2_000_000));
    let body = json!({"event": "q", "rooms": ["r"], "ack": {"timeoutMs": 5000}});
    let asked = server.post("/events", &body);
    let answered = async {
        for client in &mut clients {
            let event = client.next_event("q").await;
            acknowledge(client, &event, &large).await;
        }
    };
    let (answer, ()) = tokio::join!(asked, answered);
    let answer = answer.expect(200);
    let count = |list: &str| answer[list].as_array().unwrap().len();
    assert_eq!((count("responses"), count("timedOut")), (3, 2), "8 MB in all");
}

#[tokio::test]
async fn what_is_wrong_with_arguments_and_acknowledgements_is_told() {
    let server = TestServer::open().await;
    let many = (0..1001).map(|n| n.to_string()).collect::<Vec<_>>();
    for (fields, fault) in [
        (json!({"args": {}}), "args must be an array"),
        (json!({"args": [], "data": 1}), "data should not exist beside args"),
        (json!({"args": [{"$binary": 1}]}), "args: $binary must be a string in base64"),
        (
            json!({"args": [{"_placeholder": true, "num": 0}]}),
            "args must not hold the placeholder of a binary attachment",
        ),
        (json!({"ack": true}), "ack must be an object"),
        (json!({"ack": {}}), "ack.timeoutMs must be an integer from 100 to 30000"),
        (json!({"ack": {"timeoutMs": 99}}), "ack.timeoutMs must be an integer from 100 to 30000"),
        (json!({"ack": {"timeoutMs": "5s"}}), "ack.timeoutMs must be an integer from 100 to 30000"),
        (json!({"ack": {"timeoutMs": 100, "x": 1}}), "ack.property x should not exist"),
        (
            json!({"ack": {"timeoutMs": 100}, "users": many}),
            "with ack no more than 1000 addressees may be named",
        ),
    ] {
        let mut body = json!({"event": "e"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        assert_eq!(server.post("/events", &body).await.refusal(400), json!([fault]));
    }
}
