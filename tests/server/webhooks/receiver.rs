//! An endpoint in this process, which checks every signature with the official library.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use parking_lot::Mutex;
use roomcast::config::Config;
use serde_json::Value;
use standardwebhooks::Webhook;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};

use crate::support::TestServer;

/// How long anything may take; a test that waits for longer has failed.
const DEADLINE: Duration = Duration::from_secs(20);

/// What webhooks are signed with.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A webhook that has come.
#[derive(Debug, Clone)]
pub struct Received {
    pub id: String,
    pub signature: String,
    pub body: Value,
    fault: Option<String>,
}

impl Received {
    pub fn kind(&self) -> &str {
        self.body["type"].as_str().unwrap()
    }

    pub fn data(&self) -> &Value {
        &self.body["data"]
    }

    /// What its order is kept for: its room, or its user.
    pub fn stream(&self) -> String {
        let data = self.data();
        match (self.kind().split('.').next().unwrap(), &data["room"], &data["userId"]) {
            ("room" | "message", Value::String(room), _) => {
                format!("{room} of {}", data["namespace"])
            }
            (_, _, Value::String(user)) => user.clone(),
            _ => String::new(),
        }
    }
}

/// What the endpoint answers.
#[derive(Debug, Clone)]
pub enum Reply {
    Status(u16),
    /// 429 with `Retry-After`.
    Later(u64),
    /// To somewhere else.
    Redirect,
    /// 204, with the next permit.
    When(Arc<Semaphore>),
    /// Nothing at all.
    Hang,
}

type Answer = Box<dyn FnMut(&Received) -> Reply + Send>;

#[derive(Clone)]
struct Shared {
    sender: mpsc::UnboundedSender<Received>,
    answer: Arc<Mutex<Answer>>,
}

/// The endpoint. Dropped, it is gone.
pub struct Receiver {
    address: SocketAddr,
    received: mpsc::UnboundedReceiver<Received>,
    shared: Shared,
    serving: JoinHandle<()>,
}

impl Receiver {
    /// An endpoint on a free port that takes everything.
    pub async fn start() -> Self {
        let (sender, received) = mpsc::unbounded_channel();
        let answer: Answer = Box::new(|_| Reply::Status(204));
        let shared = Shared { sender, answer: Arc::new(Mutex::new(answer)) };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = serve(listener, shared.clone());
        Self { address, received, shared, serving }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}/webhooks", self.address)
    }

    /// From now on it answers so.
    pub fn answer(&self, answer: impl FnMut(&Received) -> Reply + Send + 'static) {
        *self.shared.answer.lock() = Box::new(answer);
    }

    /// Ends it, with all its connections.
    pub async fn kill(&mut self) {
        self.serving.abort();
        let _aborted = (&mut self.serving).await;
    }

    /// Starts it again at the same address.
    pub async fn start_again(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serving = serve(listener, self.shared.clone());
    }

    /// A server that tells it everything.
    pub async fn server(&self, configure: impl FnOnce(&mut Config)) -> TestServer {
        let url = self.url();
        TestServer::one_node(|config| {
            config.redis_url = None;
            config.webhook_url = Some(url);
            config.webhook_secret = secret();
            config.webhook_events = ["*"].into_iter().collect();
            configure(config);
        })
        .await
    }

    /// The next webhook.
    pub async fn next(&mut self) -> Received {
        let next = tokio::time::timeout(DEADLINE, self.received.recv()).await;
        let next = next.expect("no webhook has come for twenty seconds").unwrap();
        assert_eq!(next.fault, None, "{}", next.body);
        next
    }

    /// The next webhook of this type.
    pub async fn next_of(&mut self, kind: &str) -> Received {
        loop {
            let next = self.next().await;
            if next.kind() == kind {
                return next;
            }
        }
    }

    /// The webhooks up to one that is `last`, by what their order is kept for.
    pub async fn until(
        &mut self,
        mut last: impl FnMut(&Received) -> bool,
    ) -> HashMap<String, Vec<Received>> {
        let mut streams = HashMap::<_, Vec<_>>::new();
        loop {
            let next = self.next().await;
            let is_last = last(&next);
            streams.entry(next.stream()).or_default().push(next);
            if is_last {
                return streams;
            }
        }
    }

    /// The webhooks that have come and were not looked at.
    pub fn rest(&mut self) -> Vec<Received> {
        let mut rest = Vec::new();
        while let Ok(next) = self.received.try_recv() {
            rest.push(next);
        }
        rest
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// [`SECRET`], as the configuration has it.
pub fn secret() -> roomcast::config::SigningSecrets {
    let key = [
        0x31, 0xf2, 0x90, 0xf6, 0xbf, 0x06, 0x29, 0x8a, 0xab, 0x4f, 0x08, 0xd4, 0x3c, 0x3f, 0x08,
        0x2c, 0xf6, 0x48, 0xa3, 0x62, 0xda, 0x2d, 0xa4, 0xb0,
    ];
    [key.to_vec()].into_iter().collect()
}

fn serve(listener: TcpListener, shared: Shared) -> JoinHandle<()> {
    tokio::spawn(async move {
        // Each connection is a task of its own, which ends with this set.
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let router = Router::new().fallback(take).with_state(shared.clone());
            let service = hyper_util::service::TowerToHyperService::new(router);
            connections.spawn(async move {
                let io = hyper_util::rt::TokioIo::new(stream);
                // Whoever asked may have gone.
                let _ended =
                    hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
            });
        }
    })
}

async fn take(State(shared): State<Shared>, headers: HeaderMap, text: String) -> Response {
    let header = |name: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let fault = Webhook::new(SECRET).unwrap().verify(text.as_bytes(), &headers).err();
    let received = Received {
        id: header("webhook-id"),
        signature: header("webhook-signature"),
        body: serde_json::from_str(&text).unwrap(),
        fault: fault.map(|fault| fault.to_string()),
    };
    let reply = (shared.answer.lock())(&received);
    let _test_over = shared.sender.send(received);
    match reply {
        Reply::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Reply::Later(seconds) => {
            (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, seconds.to_string())]).into_response()
        }
        Reply::Redirect => {
            let to = [(axum::http::header::LOCATION, "/elsewhere")];
            (StatusCode::TEMPORARY_REDIRECT, to).into_response()
        }
        Reply::When(permitted) => {
            permitted.acquire().await.unwrap().forget();
            StatusCode::NO_CONTENT.into_response()
        }
        Reply::Hang => std::future::pending().await,
    }
}
