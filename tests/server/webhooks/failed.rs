//! Webhooks that were given up: listed, retried and discarded, over HTTP and with `roomcast webhooks`.

use reqwest::Method;
use roomcast::{
    config::{Environment, Secret},
    protocol::names::{RoomName, UserId},
    store::{RoomKey, Stream, Webhook},
};
use serde_json::{Value, json};

use super::{
    nodes,
    receiver::{Receiver, Reply},
};
use crate::support::{Answer, TestServer, process::Ran, redis::RedisServer};

/// A server or two with one endpoint: the last one is asked, the first one delivers.
struct World {
    receiver: Receiver,
    servers: Vec<TestServer>,
    _redis: Option<RedisServer>,
}

impl World {
    async fn alone() -> Self {
        let receiver = Receiver::start().await;
        let servers =
            vec![receiver.server(|config| config.environment = Environment::Development).await];
        Self { receiver, servers, _redis: None }
    }

    async fn shared() -> Self {
        let (redis, mut receiver) = (RedisServer::start(), Receiver::start().await);
        let mut servers = Vec::new();
        for _ in 0..2 {
            servers.push(nodes::node(&receiver, &redis).await);
            receiver.next_of("node.started").await;
        }
        Self { receiver, servers, _redis: Some(redis) }
    }

    fn asked(&self) -> &TestServer {
        self.servers.last().unwrap()
    }

    /// Has webhooks given up: they are older than they are tried for, and the endpoint fails. Those of one user wait
    /// for one another.
    async fn give_up(&mut self, ids: &[&str]) {
        self.receiver.answer(|_| Reply::Status(500));
        for id in ids {
            let stream = Stream::of_user(&UserId::parse(id).unwrap());
            let json = json!({"type": "user.online", "data": {"userId": id}}).to_string();
            // After three days it is given up when it fails, after four even if it cannot be tried.
            let at_ms =
                roomcast::protocol::timestamp::Timestamp::now().as_millis() - 84 * 3_600_000;
            let webhook = Webhook { id: (*id).to_owned(), stream, at_ms, json };
            let before = self.failed_count().await;
            let room = RoomKey { namespace: "/".into(), room: RoomName::parse("r").unwrap() };
            self.asked().app.store.as_ref().unwrap().tell(&room, webhook).await.unwrap();
            // One after the other, as they are listed in this order.
            let begun = std::time::Instant::now();
            while self.failed_count().await == before {
                assert!(begun.elapsed().as_secs() < 20, "{id} is not given up");
            }
        }
        self.receiver.answer(|_| Reply::Status(204));
        drop(self.receiver.rest());
    }

    async fn failed_count(&self) -> u64 {
        let state = self.asked().get("/webhooks").await.expect(200);
        state["failed"].as_u64().unwrap()
    }

    async fn failed(&self) -> Vec<Value> {
        let page = self.asked().get("/webhooks/failed").await.expect(200);
        assert_eq!(page["total"], page["items"].as_array().unwrap().len());
        page["items"].as_array().unwrap().clone()
    }

    async fn failed_ids(&self) -> Vec<String> {
        let id = |failed: Value| failed["id"].as_str().unwrap().to_owned();
        self.failed().await.into_iter().map(id).collect()
    }

    /// The next webhook among those that were given up.
    async fn next(&mut self) -> String {
        loop {
            let next = self.receiver.next().await;
            if !next.id.starts_with("msg_") {
                return next.id;
            }
        }
    }

    /// Runs `roomcast webhooks` with these arguments and this key.
    async fn run(&self, arguments: &[&str], key: Option<&str>) -> Ran {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_roomcast"));
        command.env_clear().current_dir(std::env::temp_dir());
        command.args(["webhooks", "--url", &self.asked().url("")]).args(arguments);
        command.envs(key.map(|key| ("API_KEYS", key)));
        Ran::of(&command.output().await.unwrap())
    }
}

async fn check_http(mut world: World) {
    world.give_up(&["ann", "bob", "cleo"]).await;
    let failed = world.failed().await;
    assert_eq!(failed[0]["id"], "ann");
    assert_eq!(failed[0]["body"], json!({"type": "user.online", "data": {"userId": "ann"}}));
    assert_eq!(failed[0]["error"], "an answer with status 500 Internal Server Error");
    assert!(failed[0]["failedAt"].as_str().unwrap().starts_with("20"), "{}", failed[0]);
    let first = world.asked().get("/webhooks/failed?limit=2").await.expect(200);
    assert_eq!((first["items"].as_array().unwrap().len(), &first["total"]), (2, &json!(3)));
    let cursor = first["nextCursor"].as_str().unwrap();
    let rest = world.asked().get(&format!("/webhooks/failed?cursor={cursor}")).await.expect(200);
    assert_eq!((&rest["items"], &rest["nextCursor"]), (&json!([failed[2]]), &Value::Null));

    let body = json!({"ids": ["bob", "unknown"]});
    let retried = world.asked().post("/webhooks/failed/retry", &body).await.expect(200);
    assert_eq!(retried, json!({"webhooks": 1}));
    assert_eq!(world.next().await, "bob");
    assert_eq!(world.failed_ids().await, ["ann", "cleo"]);
    let discarded = world.asked().delete("/webhooks/failed?id=ann&id=bob").await.expect(200);
    assert_eq!(discarded, json!({"webhooks": 1}));
    assert_eq!(world.failed_ids().await, ["cleo"]);

    // A retried one that fails is tried for three days more.
    world.receiver.answer(|_| Reply::Later(3_600));
    let retried = world.asked().post("/webhooks/failed/retry", &json!({})).await.expect(200);
    assert_eq!(retried, json!({"webhooks": 1}));
    assert_eq!(world.next().await, "cleo");
    assert!(world.failed_ids().await.is_empty());
    world.receiver.answer(|_| Reply::Status(204));
    // It waits for an hour, unless all are wanted at once. The wait may begin a moment after the answer.
    let begun = std::time::Instant::now();
    loop {
        assert!(begun.elapsed().as_secs() < 20, "it still waits");
        let retried = world.asked().post("/webhooks/failed/retry", &json!({})).await.expect(200);
        assert_eq!(retried, json!({"webhooks": 0}));
        if world.receiver.rest().iter().any(|next| next.id == "cleo") {
            break;
        }
    }

    world.give_up(&["dan", "eve"]).await;
    let discarded = world.asked().delete("/webhooks/failed?all=true").await.expect(200);
    assert_eq!(discarded, json!({"webhooks": 2}));
    assert!(world.failed_ids().await.is_empty());
}

#[tokio::test]
async fn they_are_listed_retried_and_discarded() {
    check_http(World::alone().await).await;
}

#[tokio::test]
async fn they_are_listed_retried_and_discarded_on_a_node_that_does_not_deliver() {
    check_http(World::shared().await).await;
}

async fn check_command(mut world: World) {
    world.give_up(&["ann", "bob", "cleo"]).await;
    let ran = world.run(&["list"], None).await;
    let lines = ran.ok().lines().collect::<Vec<_>>();
    assert!(lines[0].starts_with("waiting: "), "{lines:?}");
    assert_eq!((lines[1], lines.len()), ("failed: 3", 5));
    let words = lines[2].split("  ").collect::<Vec<_>>();
    let why = "an answer with status 500 Internal Server Error";
    assert_eq!((words[0], words[2], words[3]), ("ann", "user.online", why));
    let ran = world.run(&["list", "--json"], None).await;
    let items = ran.ok().lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert_eq!(items.collect::<Vec<_>>(), world.failed().await);

    assert_eq!(world.run(&["retry", "cleo"], None).await.ok(), "retried: 1\n");
    assert_eq!(world.next().await, "cleo");
    let ran = world.run(&["discard", "ann", "ann", "unknown"], None).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), "discarded: 1\n"));
    assert!(ran.stderr.starts_with("1 of 2 ids are not among"), "{ran:?}");
    assert_eq!(world.run(&["retry", "--all"], None).await.ok(), "retried: 1\n");
    assert_eq!(world.next().await, "bob");
    world.give_up(&["dan", "eve"]).await;
    assert_eq!(world.run(&["discard", "--all"], None).await.ok(), "discarded: 2\n");
    assert!(world.failed_ids().await.is_empty());
    // All or some, but neither nothing nor both.
    for arguments in [vec!["retry"], vec!["discard", "--all", "ann"], vec![]] {
        let ran = world.run(&arguments, None).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    }
}

#[tokio::test]
async fn the_command_does_the_same() {
    check_command(World::alone().await).await;
}

#[tokio::test]
async fn the_command_does_the_same_on_a_node_that_does_not_deliver() {
    check_command(World::shared().await).await;
}

/// Requests for every route.
const ROUTES: [(&str, &str); 4] = [
    ("GET", "/webhooks"),
    ("GET", "/webhooks/failed"),
    ("POST", "/webhooks/failed/retry"),
    ("DELETE", "/webhooks/failed?all=true"),
];

async fn ask(server: &TestServer, (method, path): (&str, &str), key: Option<&str>) -> Answer {
    let mut request = server.request(Method::from_bytes(method.as_bytes()).unwrap(), path);
    if method == "POST" {
        request = request.json(&json!({}));
    }
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    Answer::of(request).await
}

#[tokio::test]
async fn they_are_for_backends_with_a_key_only() {
    let receiver = Receiver::start().await;
    for keys in [&[][..], &["key"]] {
        let server = receiver
            .server(|config| {
                config.environment = Environment::Production;
                config.api_keys = keys.iter().map(|key| Secret::new(*key)).collect();
            })
            .await;
        for route in ROUTES {
            let refused = if keys.is_empty() { 403 } else { 401 };
            ask(&server, route, None).await.refusal(refused);
            ask(&server, route, Some("another")).await.refusal(refused);
            if !keys.is_empty() {
                ask(&server, route, Some("key")).await.expect(200);
            }
        }
        let world =
            World { receiver: Receiver::start().await, servers: vec![server], _redis: None };
        let ran = world.run(&["list"], None).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
        assert!(ran.stderr.contains("key"), "{ran:?}");
        if !keys.is_empty() {
            assert!(world.run(&["list"], Some("key,another")).await.ok().ends_with("failed: 0\n"));
        }
    }
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let world = World::alone().await;
    let server = world.asked();
    for (body, fault) in [
        (json!({"ids": []}), "ids should not be empty"),
        (json!({"ids": null}), "ids should not be empty"),
        (json!({"ids": "ann"}), "ids must be an array"),
        (json!({"ids": [true]}), "each value in ids must be a string"),
        (json!({"ids": vec!["x"; 1_001]}), "ids must contain no more than 1000 elements"),
        (json!({"id": "ann"}), "property id should not exist"),
    ] {
        let refusal = server.post("/webhooks/failed/retry", &body).await.refusal(400);
        assert_eq!(refusal, json!([fault]), "{body}");
    }
    for (query, fault) in [
        ("", "either id or all=true must be given"),
        ("?all=false", "either id or all=true must be given"),
        ("?all=true&id=ann", "either id or all=true must be given"),
        ("?id=", "id should not be empty"),
        ("?all=yes", "all must be a boolean value"),
        ("?ids=ann", "property ids should not exist"),
    ] {
        let refusal = server.delete(&format!("/webhooks/failed{query}")).await.refusal(400);
        assert_eq!(refusal, json!([fault]), "{query}");
    }
    server.get("/webhooks/failed?limit=0").await.refusal(400);
    server.get("/webhooks/failed?cursor=%3F").await.refusal(400);
    server.get("/webhooks/failed?cursor=YW5u").await.refusal(400);
    let without = TestServer::one_node(|config| {
        config.redis_url = None;
        config.environment = Environment::Development;
    })
    .await;
    for route in ROUTES {
        let refusal = ask(&without, route, None).await.refusal(404);
        assert_eq!(refusal, "no webhooks are sent: set WEBHOOK_URL and WEBHOOK_SECRET");
    }
    let nobody = World { receiver: Receiver::start().await, servers: vec![without], _redis: None };
    let ran = nobody.run(&["list"], None).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("404 Not Found: no webhooks are sent"), "{ran:?}");
    for (url, why) in [("ftp://127.0.0.1", "http://"), ("http://127.0.0.1:1", "127.0.0.1:1")] {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_roomcast"));
        command.env_clear().current_dir(std::env::temp_dir());
        let ran =
            Ran::of(&command.args(["webhooks", "list", "--url", url]).output().await.unwrap());
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains(why), "{ran:?}");
    }
}
