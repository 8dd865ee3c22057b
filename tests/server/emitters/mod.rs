//! Socket.IO's Redis emitters: what they publish and what they add to a stream, to the byte, on one node and on two.
//!
//! The stories that their own packages tell are in `tests/clients`.

mod handing_over;
mod hostile;
mod publish;
mod stream;

use redis::{AsyncConnectionConfig, aio::MultiplexedConnection};
use roomcast::config::Config;
use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    support::{msgpack::pack, redis::RedisServer},
};

/// A connection by which emitters send.
#[derive(Clone)]
struct Emitter(MultiplexedConnection);

fn configure(config: &mut Config) {
    config.emitter_prefix = Some("socket.io".to_owned());
    // Everything is read again from the history.
    config.history_size = 100_000;
}

/// So many nodes that hear emitters, and one of these.
async fn start(nodes: usize) -> (Cluster, Emitter) {
    let cluster = Cluster::with(nodes, configure).await;
    let emitter = Emitter::to(&cluster.redis).await;
    (cluster, emitter)
}

/// How many messages had this outcome, over all nodes.
async fn count(cluster: &Cluster, source: &str, outcome: &str) -> u64 {
    let labels = format!("{{source=\"{source}\",outcome=\"{outcome}\"}} ");
    let wanted = format!("roomcast_emitter_messages_total{labels}");
    let mut count = 0;
    for node in &cluster.nodes {
        let figures = node.get("/metrics").await.text;
        let found = figures.lines().find_map(|line| line.strip_prefix(&wanted));
        count += found.map_or(0, |found| found.parse::<u64>().unwrap());
    }
    count
}

impl Emitter {
    async fn to(redis: &RedisServer) -> Self {
        let client = redis::Client::open(redis.url()).unwrap();
        // A test that publishes much waits for as long as that takes.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        Self(client.get_multiplexed_async_connection_with_config(&config).await.unwrap())
    }

    /// Publishes bytes; returns how many listen.
    async fn publish(&self, channel: &str, bytes: &[u8]) -> usize {
        let mut redis = self.0.clone();
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(channel).arg(bytes).query_async(&mut redis).await.unwrap()
    }

    /// Emits as `@socket.io/redis-emitter` does.
    async fn emit(&self, nsp: &str, rooms: &[&str], data: Value) {
        self.emit_with(nsp, rooms, data, json!({}), &[]).await;
    }

    async fn emit_with(
        &self,
        nsp: &str,
        rooms: &[&str],
        data: Value,
        flags: Value,
        except: &[&str],
    ) {
        let packet = json!({"type": 2, "data": data, "nsp": nsp});
        let options = json!({"rooms": rooms, "flags": flags, "except": except});
        let mut channel = format!("socket.io#{nsp}#");
        if let [room] = rooms {
            channel = format!("{channel}{room}#");
        }
        let listeners = self.publish(&channel, &pack(&json!(["emitter", packet, options]))).await;
        assert!(listeners > 0, "nobody listens");
    }

    /// Makes a request as `@socket.io/redis-emitter` does.
    async fn request(&self, nsp: &str, request: &Value) {
        self.publish(&format!("socket.io-request#{nsp}#"), request.to_string().as_bytes()).await;
    }

    /// Adds an entry with these fields.
    async fn add_fields(&self, id: &str, fields: &[(&str, String)]) {
        let mut add = redis::cmd("XADD");
        add.arg("socket.io").arg("MAXLEN").arg("~").arg(10_000).arg(id).arg(fields);
        add.query_async::<String>(&mut self.0.clone()).await.unwrap();
    }

    /// Adds an entry as `@socket.io/redis-streams-emitter` does.
    async fn add(&self, nsp: &str, kind: u8, data: &Value) {
        let (uid, nsp) = ("emitter".to_owned(), nsp.to_owned());
        let fields =
            [("uid", uid), ("nsp", nsp), ("type", kind.to_string()), ("data", data.to_string())];
        self.add_fields("*", &fields).await;
    }

    /// Adds an event, as that emitter does.
    async fn add_event(&self, nsp: &str, rooms: &[&str], event: Value) {
        let packet = json!({"type": 2, "data": event, "nsp": nsp});
        let opts = json!({"rooms": rooms, "flags": {}, "except": []});
        self.add(nsp, 3, &json!({"packet": packet, "opts": opts})).await;
    }
}
