//! What the black box tests share: a started server, an HTTP caller, and a Socket.IO client.
//!
//! Tests tell a client's story and wait for events, never for time. That nothing came is told by
//! [`TestClient::settle`]: a client's packets stay in order, so what was sent before a pong came
//! before it.

#![allow(dead_code, unused_imports, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "as in tests: what is not as expected fails the test")]

mod client;
pub mod msgpack;
pub mod peer;
pub mod process;
pub mod raw;
pub mod redis;

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use reqwest::{Method, RequestBuilder, Response, StatusCode, header::HeaderMap};
use roomcast::{
    auth::{Grant, SigningKey, issue},
    commands::queries,
    config::{Config, Environment, Secret, StoreUrl},
    gateways::app::App,
    protocol::names::UserId,
    server,
    store::Health,
};
use serde_json::Value;
use tokio::{sync::oneshot, task::JoinHandle};

pub use self::client::{Connecting, Event, TestClient, fields, timeless};

/// What the tokens of tests are signed with.
pub const SECRET: &str = "a secret of tests that is long enough to be one";

/// A token that [`SECRET`] has signed: it says who its user is, and permits everything for an hour.
pub fn token_of(user: &str) -> String {
    token_for(user, Duration::from_hours(1))
}

/// The same for as long as this.
pub fn token_for(user: &str, ttl: Duration) -> String {
    let grant = Grant {
        user_id: &UserId::parse(user).unwrap(),
        name: None,
        rooms: None,
        ttl: Some(ttl),
        issuer: None,
        audience: None,
        key_id: None,
    };
    issue(&SigningKey::from_secret(SECRET).unwrap(), &grant, SystemTime::now()).unwrap()
}

/// A server of its own on free ports of this machine, in this process: one node or several.
pub struct TestServer {
    /// The inside of its first node, for what cannot be brought about from the outside.
    pub app: App,
    nodes: Vec<Node>,
    /// Counts the clients.
    clients: AtomicUsize,
    http: reqwest::Client,
}

/// One node of a server.
struct Node {
    app: App,
    address: std::net::SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<std::io::Result<()>>,
}

impl Node {
    async fn start(config: Config) -> Self {
        let server = server::bind(Arc::new(config)).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let (app, address) = (server.app().clone(), server.address());
        let running = tokio::spawn(server.run(async {
            // A test that ends drops the sender: that, too, stops the server.
            let _either = stopped.await;
        }));
        let node = Self { app, address, stop: Some(stop), running };
        node.linked().await;
        node
    }

    /// Waits until Redis is connected, if there is one.
    async fn linked(&self) {
        let begun = std::time::Instant::now();
        let (cluster, store) = (self.app.cluster.as_ref(), self.app.store.as_ref());
        while cluster.is_some_and(|it| it.health().is_err() || !it.failing_instances().is_empty())
            || store.is_some_and(|it| {
                it.health() != Health::Working || !it.failing_instances().is_empty()
            })
        {
            assert!(begun.elapsed() < Duration::from_secs(10), "Redis is not connected");
            tokio::task::yield_now().await;
        }
    }
}

/// How the servers of this run are to be.
fn shared() -> Option<(Secret, usize)> {
    let url = std::env::var("ROOMCAST_TEST_REDIS").ok()?;
    let nodes = std::env::var("ROOMCAST_TEST_NODES").map_or(1, |nodes| nodes.parse().unwrap());
    Some((Secret::new(url), nodes))
}

impl TestServer {
    /// A server as it is configured by default, with its store in memory.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A server whose management routes are open.
    pub async fn open() -> Self {
        Self::with(|config| config.environment = Environment::Development).await
    }

    /// A server that takes this API key.
    pub async fn with_key(key: &str) -> Self {
        Self::with(|config| config.api_keys = vec![Secret::new(key)]).await
    }

    /// The default settings of this run, and how many nodes.
    fn configured() -> (Config, usize) {
        let mut config = Config {
            port: 0,
            host: Ipv4Addr::LOCALHOST.into(),
            store_url: StoreUrl::Memory,
            ..Config::default()
        };
        let Some((url, nodes)) = shared() else { return (config, 1) };
        config.redis_url = Some(url);
        config.redis_prefix = uuid::Uuid::new_v4().simple().to_string();
        (config, nodes)
    }

    /// A server with other settings than the default ones.
    pub async fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let (config, count) = Self::configured();
        Self::of(count, config, configure).await
    }

    /// The same, but never more than one node: for what counts on each node for itself.
    pub async fn one_node(configure: impl FnOnce(&mut Config)) -> Self {
        let (config, _) = Self::configured();
        Self::of(1, config, configure).await
    }

    async fn of(count: usize, mut config: Config, configure: impl FnOnce(&mut Config)) -> Self {
        configure(&mut config);
        // A server that starts again on the same file is, over Redis, one that has the same prefix.
        if let (Some(_), StoreUrl::Sqlite(path)) = (&config.redis_url, &config.store_url) {
            let path = path.display().to_string();
            config.redis_prefix = path.replace(|letter: char| !letter.is_alphanumeric(), "-");
        }
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(Node::start(config.clone()).await);
        }
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let app = nodes[0].app.clone();
        Self { app, nodes, clients: AtomicUsize::new(0), http }
    }

    /// Where its first node listens, as `host:port`.
    pub fn address(&self) -> std::net::SocketAddr {
        self.nodes[0].address
    }

    /// Where all its nodes listen.
    pub fn addresses(&self) -> Vec<std::net::SocketAddr> {
        self.nodes.iter().map(|node| node.address).collect()
    }

    /// How many nodes it is.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Whether it keeps everything in Redis.
    pub fn is_shared(&self) -> bool {
        self.app.cluster.is_some()
    }

    /// How many users are online.
    pub async fn count_users(&self) -> u64 {
        serde_json::to_value(queries::stats(&self.app).await).unwrap()["users"].as_u64().unwrap()
    }

    /// What a user is to all nodes.
    pub async fn presence(&self, user: &str) -> Value {
        let user = UserId::parse(user).unwrap();
        serde_json::to_value(queries::user(&self.app, &user).await.unwrap()).unwrap()
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// A request, to be completed and sent.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    /// The answer to `GET path`.
    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    /// The status of `GET path` and all that came, with the path sent as it is: no dots taken out of it.
    pub async fn get_raw(&self, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(self.address()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        (answer[9..12].parse().unwrap(), answer)
    }

    /// The answer to `DELETE path`.
    pub async fn delete(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::DELETE, path)).await
    }

    /// The answer to `POST path` with this JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::of(self.request(Method::POST, path).json(body)).await
    }

    /// The answer to `POST path` with this text, said to be JSON.
    pub async fn post_text(&self, path: &str, body: impl Into<String>) -> Answer {
        let request = self.request(Method::POST, path).header("content-type", "application/json");
        Answer::of(request.body(body.into())).await
    }

    /// Waits until the server's figures are as they should be. What follows the end of a connection
    /// is seen nowhere else.
    pub async fn until(&self, wanted: impl Fn(&str) -> bool) {
        let begun = std::time::Instant::now();
        while !wanted(&self.get("/metrics").await.text) {
            assert!(begun.elapsed() < Duration::from_secs(10), "the figures stay as they are");
        }
    }

    /// A client of `/`.
    pub async fn client(&self) -> TestClient {
        self.connecting().join().await
    }

    /// A client of another namespace.
    pub async fn client_of(&self, namespace: &str) -> TestClient {
        self.connecting().namespace(namespace).join().await
    }

    /// A client that is about to connect: to one node after the other.
    pub fn connecting(&self) -> Connecting {
        let node = self.clients.fetch_add(1, Relaxed) % self.nodes.len();
        let apps = self.nodes.iter().map(|node| node.app.clone()).collect::<Vec<_>>();
        Connecting::to(self.nodes[node].address).settling(apps)
    }

    /// Waits until nobody but `observer` is known to it: no client, no member, no user.
    pub async fn emptied(&self, observer: &mut TestClient) {
        let begun = std::time::Instant::now();
        loop {
            let registries = self.nodes.iter().map(|node| &node.app.registry);
            let left = registries.fold((0, 0, 0), |(clients, all, users), registry| {
                let rooms =
                    registry.namespaces().into_iter().map(|namespace| namespace.room_count());
                let rooms = rooms.sum::<usize>();
                (clients + registry.connections(), all + rooms, users + registry.users.count())
            });
            if left == (1, 0, 0) {
                return;
            }
            assert!(begun.elapsed().as_secs() < 10, "(clients, rooms, users) are left: {left:?}");
            // Every round trip gives the server its turn.
            observer.settle().await;
        }
    }

    /// Stops it and waits until it has.
    pub async fn stop(mut self) {
        for node in &mut self.nodes {
            drop(node.stop.take());
            (&mut node.running).await.unwrap().unwrap();
        }
    }
}

/// An HTTP answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub text: String,
}

impl Answer {
    /// The answer to a request.
    pub async fn of(request: RequestBuilder) -> Self {
        let response: Response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap() }
    }

    /// The body as JSON; fails where the answer is no JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        let kind = self.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("application/json"), "{kind:?} is not JSON: {}", self.text);
        serde_json::from_str(&self.text).unwrap()
    }

    /// The body as JSON of an answer with this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self.json()
    }

    /// The message of a refusal with this status, in NestJS's shape.
    #[track_caller]
    pub fn refusal(&self, status: u16) -> Value {
        let body = self.expect(status);
        assert_eq!(body["statusCode"], status);
        assert_eq!(body["error"], self.status.canonical_reason().unwrap());
        assert_eq!(body.as_object().unwrap().len(), 3, "{body}");
        body["message"].clone()
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}
