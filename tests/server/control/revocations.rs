//! Tokens that are no longer good: for who is connected and for who connects, on all nodes, after a restart.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{World, in_seconds, moment, token, with_tokens};
use crate::support::{SECRET, TestClient, process, redis::RedisServer};

/// The refusal of a token, if it is refused.
async fn knock(world: &World, node: usize, claims: &Value) -> Option<String> {
    let connecting = super::Connecting::to(world.nodes[node].address());
    let refused = connecting.auth(json!({"token": token(claims)})).knock().await.err()?;
    Some(refused.as_str().unwrap().to_owned())
}

async fn thrown_out(mut client: TestClient) {
    assert!(client.next("token-revoked").await["message"].is_string());
    client.ended().await;
}

#[tokio::test]
async fn a_revoked_token_is_good_for_nothing_until_it_is_taken_back() {
    for world in World::both(with_tokens).await {
        let revoked = json!({"sub": "ann", "jti": "t1"});
        let other = json!({"sub": "ann", "jti": "t2"});
        let (ann, mut stays) = (world.bearer(&revoked).await, world.bearer(&other).await);
        let body = json!({"jti": "t1", "expiresAt": moment(3600)});
        let made = world.first().post("/revocations", &body).await.expect(201);
        let id = made["id"].as_str().unwrap().to_owned();
        let wanted = json!({
            "id": id, "jti": "t1", "expiresAt": moment(3600), "createdAt": made["createdAt"],
        });
        assert_eq!(made["jti"], wanted["jti"]);
        assert_eq!(made.as_object().unwrap().len(), 4, "{made}");
        // In force on every node, once it is answered.
        for node in 0..world.nodes.len() {
            assert_eq!(knock(&world, node, &revoked).await.unwrap(), "token was revoked");
            assert_eq!(knock(&world, node, &other).await, None);
            let listed = world.nodes[node].get("/revocations").await.expect(200);
            assert_eq!((&listed["total"], &listed["items"]), (&json!(1), &json!([made])));
        }
        thrown_out(ann).await;
        let renewal = json!({"userId": "ann", "token": token(&revoked)});
        super::assert_refused(&stays.ask("authenticate", renewal).await, "unauthorized");
        assert!(stays.all("token-revoked").await.is_empty());

        let path = format!("/revocations/{id}");
        assert_eq!(world.first().delete(&path).await.status, 204);
        world.first().delete(&path).await.refusal(404);
        for node in 0..world.nodes.len() {
            assert_eq!(knock(&world, node, &revoked).await, None);
            assert_eq!(world.nodes[node].get("/revocations").await.expect(200)["total"], 0);
        }
    }
}

#[tokio::test]
async fn everything_of_a_user_before_a_moment_is_revoked() {
    for world in World::both(with_tokens).await {
        let issued = |at: i64| json!({"sub": "ann", "iat": in_seconds(at)});
        let ageless = json!({"sub": "ann"});
        let ben = json!({"sub": "ben", "iat": in_seconds(-600)});
        let old = [world.bearer(&issued(-600)).await, world.bearer(&ageless).await];
        let mut stays = [world.bearer(&issued(60)).await, world.bearer(&ben).await];
        let body = json!({"userId": "ann", "issuedBefore": moment(0), "expiresAt": moment(3600)});
        world.first().post("/revocations", &body).await.expect(201);
        for client in old {
            thrown_out(client).await;
        }
        for client in &mut stays {
            assert!(client.all("token-revoked").await.is_empty());
        }
        for (claims, is_refused) in
            [(issued(-1), true), (ageless, true), (issued(60), false), (ben, false)]
        {
            let refusal = knock(&world, 0, &claims).await;
            assert_eq!(refusal.is_some(), is_refused, "{claims}");
        }
        // Without a moment: everything, also what is issued from now on.
        let all = json!({"userId": "ann", "expiresAt": moment(3600)});
        world.first().post("/revocations", &all).await.expect(201);
        let [young, mut ben] = stays;
        thrown_out(young).await;
        assert!(ben.all("token-revoked").await.is_empty());
        assert!(knock(&world, 0, &issued(60)).await.is_some());
    }
}

#[tokio::test]
async fn a_revocation_ends_by_itself() {
    for world in World::both(with_tokens).await {
        let claims = json!({"sub": "ann"});
        let soon = roomcast::protocol::timestamp::Timestamp::now().as_millis() + 1500;
        let soon = roomcast::protocol::timestamp::Timestamp::from_millis(soon).to_string();
        let body = json!({"userId": "ann", "expiresAt": soon});
        world.first().post("/revocations", &body).await.expect(201);
        let begun = Instant::now();
        let last = world.nodes.len() - 1;
        while knock(&world, last, &claims).await.is_some() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it is still in force");
        }
        assert_eq!(world.first().get("/revocations").await.expect(200)["total"], 0);
    }
}

#[tokio::test]
async fn a_node_that_comes_later_knows_them() {
    let world = World::of(2, &with_tokens).await;
    let claims = |user: usize| json!({"sub": format!("user-{user}")});
    for user in 0..3 {
        let body = json!({"userId": format!("user-{user}"), "expiresAt": moment(3600)});
        world.first().post("/revocations", &body).await.expect(201);
    }
    let late = world.node(&with_tokens).await;
    for user in 0..4 {
        let connecting = super::Connecting::to(late.address());
        let token = token(&claims(user));
        let refused = connecting.auth(json!({"token": token})).knock().await.is_err();
        assert_eq!(refused, user < 3);
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = late.get(&format!("/revocations?limit=2{cursor}")).await.expect(200);
        assert_eq!(page["total"], 3);
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["userId"].clone()));
        let Some(next) = page["nextCursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    seen.sort_by_key(ToString::to_string);
    assert_eq!(seen, ["user-0", "user-1", "user-2"]);
}

#[tokio::test]
async fn what_is_wrong_with_a_revocation_is_told_at_once() {
    let world = World::of(1, &with_tokens).await;
    for (body, faults) in [
        (
            json!({}),
            json!([
                "jti or userId should not be empty",
                "expiresAt must be a valid ISO 8601 date string",
            ]),
        ),
        (
            json!({"jti": "", "userId": true, "issuedBefore": 7, "expiresAt": moment(-1), "x": 1}),
            json!([
                "jti must be from 1 to 1000 characters long",
                "userId must be a string",
                "issuedBefore must be a valid ISO 8601 date string",
                "expiresAt must be in the future",
                "property x should not exist",
            ]),
        ),
        (
            json!({"issuedBefore": moment(0), "expiresAt": moment(60)}),
            json!(["jti or userId should not be empty"]),
        ),
    ] {
        assert_eq!(world.first().post("/revocations", &body).await.refusal(400), faults, "{body}");
    }
    world.first().delete("/revocations/unknown").await.refusal(404);
    let without = World::of(1, &|_| {}).await;
    let body = json!({"jti": "a", "expiresAt": moment(60)});
    let refusal = without.first().post("/revocations", &body).await.refusal(403);
    assert!(refusal.as_str().unwrap().contains("authentication is off"), "{refusal}");
}

/// Which of these users' tokens a server refuses.
async fn refused(server: &process::ServerProcess, users: &[String]) -> Vec<String> {
    let mut refused = Vec::new();
    for user in users {
        let connecting = server.connecting();
        let token = token(&json!({"sub": user}));
        if connecting.auth(json!({"token": token})).knock().await.is_err() {
            refused.push(user.clone());
        }
    }
    refused
}

#[tokio::test]
async fn they_survive_a_kill() {
    let directory = tempfile::TempDir::new().unwrap();
    let redis = RedisServer::start();
    for is_shared in [false, true] {
        let command = || {
            let mut command = process::command(&directory.path().join("store"));
            command.env("JWT_SECRET", SECRET).env("API_KEYS", "key");
            if is_shared {
                command.env_remove("STORE_URL").env("REDIS_URL", redis.url());
            } else {
                // Nothing else needs a store.
                command.env("HISTORY_SIZE", "0").env("QUEUE_SIZE", "0");
            }
            command
        };
        let server = process::start(command()).await;
        let users = (0..5).map(|user| format!("user-{user}")).collect::<Vec<_>>();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        for user in &users[..4] {
            let url = format!("http://{}/revocations", server.address());
            let body = json!({"userId": user, "expiresAt": moment(3600)});
            let begun = Instant::now();
            // Redis may not be connected yet.
            loop {
                let request = http.post(&url).bearer_auth("key").json(&body);
                let status = request.send().await.unwrap().status();
                if status == 201 {
                    break;
                }
                assert!(status == 503 && begun.elapsed() < Duration::from_secs(10), "{status}");
            }
        }
        server.kill().await;
        let server = process::start(command()).await;
        assert_eq!(refused(&server, &users).await, &users[..4]);
        server.kill().await;
    }
}
