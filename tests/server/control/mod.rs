//! What a backend commands: who is in which room, which tokens are good. On one node, and on two that share
//! one Redis.

mod access;
mod acks;
mod membership;
mod revocations;

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use roomcast::config::{Config, Environment, Secret};
use serde_json::{Value, json};

use crate::support::{Connecting, SECRET, TestClient, TestServer, redis::RedisServer};

/// One node, or two over a Redis of their own.
pub(crate) struct World {
    pub(crate) nodes: Vec<TestServer>,
    redis: Option<Arc<RedisServer>>,
}

impl World {
    /// On one node, then on two.
    pub(crate) async fn both(configure: impl Fn(&mut Config)) -> [Self; 2] {
        [Self::of(1, &configure).await, Self::of(2, &configure).await]
    }

    async fn of(count: usize, configure: &impl Fn(&mut Config)) -> Self {
        let redis = (count > 1).then(|| Arc::new(RedisServer::start()));
        let mut world = Self { nodes: Vec::new(), redis };
        for _ in 0..count {
            world.nodes.push(world.node(configure).await);
        }
        world
    }

    /// One more node.
    async fn node(&self, configure: &impl Fn(&mut Config)) -> TestServer {
        let url = self.redis.as_ref().map(|redis| Secret::new(redis.url()));
        TestServer::one_node(|config| {
            if let Some(url) = url {
                config.redis_url = Some(url);
                "control".clone_into(&mut config.redis_prefix);
            }
            config.environment = Environment::Development;
            config.announce_connections = false;
            config.rate_limit_events = 0;
            config.rate_limit_burst = 0;
            configure(config);
        })
        .await
    }

    /// The node that is asked.
    pub(crate) fn first(&self) -> &TestServer {
        &self.nodes[0]
    }

    /// A client that is about to connect, to the last node.
    pub(crate) fn connecting(&self) -> Connecting {
        let apps = self.nodes.iter().map(|node| node.app.clone()).collect();
        Connecting::to(self.nodes[self.nodes.len() - 1].address()).settling(apps)
    }

    /// A client of the last node, with a token of these claims.
    async fn bearer(&self, claims: &Value) -> TestClient {
        self.connecting().auth(json!({"token": token(claims)})).join().await
    }
}

/// Authentication by [`SECRET`].
fn with_tokens(config: &mut Config) {
    config.jwt_secret = Some(Secret::new(SECRET));
}

/// A token with these claims, as an issuer would sign it.
pub(crate) fn token(claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET.as_bytes()))
        .unwrap()
}

/// Seconds since 1970, this many from now.
fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

/// The same as the contract writes times.
pub(crate) fn moment(seconds: i64) -> String {
    roomcast::protocol::timestamp::Timestamp::from_millis(1000 * in_seconds(seconds)).to_string()
}

#[track_caller]
fn assert_refused(ack: &Value, code: &str) {
    assert_eq!((&ack["success"], &ack["code"]), (&json!(false), &json!(code)), "{ack}");
}
