//! Several nodes over one Redis are one server: the contract across them, and what becomes of it when nodes
//! die and Redis goes away, comes back, or comes back empty. Over several instances of Redis: [`shards`]; over a Redis
//! Cluster: [`redis_cluster`].
//!
//! A real redis-server for every story. The nodes are servers in this process, or, where they are killed,
//! processes of the real binary.

mod crashes;
mod flow;
mod leaving;
pub(crate) mod management;
mod messages;
mod outages;
mod partition;
mod patterns;
mod private;
mod recovery;
mod redis_cluster;
mod shards;
mod traffic;
mod users;

use std::time::{Duration, Instant};

use roomcast::config::{Config, Environment, Secret};
use serde_json::{Value, json};

use crate::support::{Connecting, TestClient, TestServer, redis::RedisServer};

/// How long anything may take that has no event of its own.
const DEADLINE: Duration = Duration::from_secs(30);

/// Some nodes over one Redis.
pub(crate) struct Cluster {
    pub redis: RedisServer,
    pub nodes: Vec<TestServer>,
}

impl Cluster {
    /// So many nodes as they are by default, but with open management routes.
    async fn start(nodes: usize) -> Self {
        Self::with(nodes, |_| {}).await
    }

    /// The same with other settings besides.
    pub(crate) async fn with(nodes: usize, configure: impl Fn(&mut Config)) -> Self {
        Self::over(RedisServer::start(), nodes, configure).await
    }

    pub(crate) async fn over(
        redis: RedisServer,
        count: usize,
        configure: impl Fn(&mut Config),
    ) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(TestServer::with(|config| on(&redis, config, &configure)).await);
        }
        Self { redis, nodes }
    }

    /// A client of `/` that is about to connect to a node.
    pub(crate) fn connecting(&self, node: usize) -> Connecting {
        let apps = self.nodes.iter().map(|node| node.app.clone()).collect();
        Connecting::to(self.nodes[node].address()).settling(apps)
    }

    /// A client of `/` of a node.
    pub(crate) async fn client(&self, node: usize) -> TestClient {
        self.connecting(node).join().await
    }

    /// A client of each node, that has forgotten how the others came.
    pub(crate) async fn clients<const N: usize>(&self) -> [TestClient; N] {
        let mut clients = Vec::new();
        for node in 0..N {
            clients.push(self.client(node % self.nodes.len()).await);
        }
        for client in &mut clients {
            client.forget().await;
        }
        clients.try_into().unwrap_or_else(|_| unreachable!("as many as were pushed"))
    }

    /// Waits until every node is as it should be.
    async fn until(&self, what: &str, is_so: impl AsyncFn(&TestServer) -> bool) {
        for node in &self.nodes {
            eventually(what, async || is_so(node).await).await;
        }
    }

    /// Waits until every node says that it is ready, or that it is not.
    async fn ready(&self, is_ready: bool) {
        let status = if is_ready { 200 } else { 503 };
        self.until("readiness", async |node: &TestServer| {
            node.get("/health/ready").await.status.as_u16() == status
        })
        .await;
    }

    /// How many nodes listen on a room's channel.
    fn listeners(&self, room: &str) -> usize {
        let channel = format!("roomcast:room:/\u{1f}{room}");
        let (_, count): (String, usize) = self.redis.command(&format!("PUBSUB NUMSUB {channel}"));
        count
    }
}

/// The configuration of a node over this Redis.
pub(crate) fn on(redis: &RedisServer, config: &mut Config, configure: impl Fn(&mut Config)) {
    config.redis_url = Some(Secret::new(redis.url()));
    "roomcast".clone_into(&mut config.redis_prefix);
    config.environment = Environment::Development;
    config.rate_limit_events = 0;
    config.rate_limit_burst = 0;
    config.announce_connections = false;
    configure(config);
}

/// Asks again and again, where nothing tells that it has happened.
pub(crate) async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < DEADLINE, "{what}: not in time");
        tokio::task::yield_now().await;
    }
}

#[track_caller]
pub(crate) fn offset_of(object: &Value) -> u64 {
    object["offset"].as_u64().unwrap_or_else(|| panic!("no offset in {object}"))
}

#[track_caller]
fn assert_refused(ack: &Value, code: &str) {
    assert_eq!((&ack["success"], &ack["code"]), (&json!(false), &json!(code)), "{ack}");
}
