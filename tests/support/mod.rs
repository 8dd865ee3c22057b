//! What the black box tests share: a started server, an HTTP caller, and a Socket.IO client.
//!
//! Tests tell a client's story and wait for events, never for time. That nothing came is told by
//! [`TestClient::settle`]: a client's packets stay in order, so what was sent before a pong came
//! before it.

#![allow(dead_code, unused_imports, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "as in tests: what is not as expected fails the test")]

mod client;
pub mod process;

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use reqwest::{Method, RequestBuilder, Response, StatusCode, header::HeaderMap};
use roomcast::{
    app::App,
    auth::{Grant, SigningKey, issue},
    config::{Config, Environment, Secret, StoreUrl},
    names::UserId,
    server,
};
use serde_json::Value;
use tokio::{sync::oneshot, task::JoinHandle};

pub use self::client::{Connecting, Event, TestClient, fields, timeless};

/// What the tokens of tests are signed with.
pub const SECRET: &str = "a secret of tests that is long enough to be one";

/// A token that [`SECRET`] has signed: it says who its user is, and permits everything.
pub fn token_of(user: &str) -> String {
    let grant = Grant {
        user_id: &UserId::parse(user).unwrap(),
        name: None,
        rooms: None,
        ttl: Some(Duration::from_hours(1)),
        issuer: None,
        audience: None,
        key_id: None,
    };
    issue(&SigningKey::from_secret(SECRET).unwrap(), &grant, SystemTime::now()).unwrap()
}

/// A server of its own on a free port of this machine, in this process.
pub struct TestServer {
    /// Its inside, for what cannot be brought about from the outside.
    pub app: App,
    address: std::net::SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<std::io::Result<()>>,
    http: reqwest::Client,
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

    /// A server with other settings than the default ones.
    pub async fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            port: 0,
            host: Ipv4Addr::LOCALHOST.into(),
            store_url: StoreUrl::Memory,
            ..Config::default()
        };
        configure(&mut config);
        let server = server::bind(Arc::new(config)).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let (app, address) = (server.app().clone(), server.address());
        let running = tokio::spawn(server.run(async {
            // A test that ends drops the sender: that, too, stops the server.
            let _either = stopped.await;
        }));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { app, address, stop: Some(stop), running, http }
    }

    /// Where it listens, as `host:port`.
    pub fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
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
        let mut stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
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

    /// A client that is about to connect.
    pub fn connecting(&self) -> Connecting {
        Connecting::to(self.address)
    }

    /// Waits until nobody but `observer` is known to it: no client, no member, no user.
    pub async fn emptied(&self, observer: &mut TestClient) {
        let registry = &self.app.registry;
        let begun = std::time::Instant::now();
        loop {
            let rooms: usize =
                registry.namespaces().iter().map(|namespace| namespace.room_count()).sum();
            let left = (registry.connections(), rooms, registry.users.count());
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
        drop(self.stop.take());
        self.running.await.unwrap().unwrap();
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
