//! A backend in this process, to which a test listens request by request.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use roomcast::config::Config;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::support::TestServer;

/// How long anything may take; a test that waits for longer has failed.
const DEADLINE: Duration = Duration::from_secs(10);

/// The application's backend. Dropped, it is gone.
pub struct Backend {
    address: SocketAddr,
    requests: mpsc::UnboundedReceiver<Asked>,
    serving: JoinHandle<()>,
}

/// A request that waits for its answer. Dropped, it is never answered.
pub struct Asked {
    pub path: String,
    pub headers: HeaderMap,
    /// The body's text, to the letter.
    pub text: String,
    pub body: Value,
    reply: oneshot::Sender<Response>,
}

impl Asked {
    /// Answers with this status and text.
    pub fn answer(self, status: u16, text: impl Into<String>) {
        let status = StatusCode::from_u16(status).unwrap();
        self.respond((status, text.into()).into_response());
    }

    /// Answers 200 with this JSON.
    pub fn reply(self, answer: &Value) {
        self.answer(200, answer.to_string());
    }

    /// Answers 204.
    pub fn nothing(self) {
        self.respond(StatusCode::NO_CONTENT.into_response());
    }

    /// Answers with a redirect.
    pub fn redirect(self, to: &str) {
        self.respond((StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response());
    }

    /// Answers with a body that has no end.
    pub fn answer_for_ever(self) {
        let chunk = Bytes::from(vec![b' '; 64 * 1024]);
        let endless = stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone()));
        self.respond(Body::from_stream(endless).into_response());
    }

    /// Begins an answer and closes the connection in the middle of it.
    pub fn break_off(self) {
        let chunks = [Ok(Bytes::from("{\"ack\":")), Err(std::io::Error::other("broken off"))];
        self.respond(Body::from_stream(stream::iter(chunks)).into_response());
    }

    fn respond(self, response: Response) {
        // Whoever asked may have given up.
        let _gone = self.reply.send(response);
    }

    /// The id of the request.
    pub fn id(&self) -> String {
        self.body["id"].as_str().unwrap().to_owned()
    }
}

impl Backend {
    /// A backend on a free port.
    pub async fn start() -> Self {
        let (sender, requests) = mpsc::unbounded_channel();
        let router = Router::new().fallback(take).with_state(sender);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, requests, serving }
    }

    /// Where it is asked.
    pub fn url(&self) -> String {
        format!("http://{}/roomcast?a=1", self.address)
    }

    /// A server whose handler it is, with open management routes.
    pub async fn server(&self, configure: impl FnOnce(&mut Config)) -> TestServer {
        let url = self.url();
        TestServer::with(|config| {
            config.handler_url = Some(url);
            config.environment = roomcast::config::Environment::Development;
            configure(config);
        })
        .await
    }

    /// The next request.
    pub async fn next(&mut self) -> Asked {
        let next = tokio::time::timeout(DEADLINE, self.requests.recv()).await;
        next.expect("the backend was not asked for ten seconds").unwrap()
    }

    /// Whether a request has come that nobody has looked at.
    pub fn is_asked(&mut self) -> bool {
        !self.requests.is_empty()
    }

    /// From now on answers every request by itself.
    pub fn always(mut self, answer: impl Fn(&Value) -> Value + Send + 'static) -> JoinHandle<()> {
        tokio::spawn(async move {
            while let Some(asked) = self.requests.recv().await {
                let answer = answer(&asked.body);
                asked.reply(&answer);
            }
        })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn take(
    State(sender): State<mpsc::UnboundedSender<Asked>>,
    uri: Uri,
    headers: HeaderMap,
    text: String,
) -> Response {
    let (reply, answered) = oneshot::channel();
    let path = uri.to_string();
    let body = serde_json::from_str(&text).unwrap_or(json!(null));
    let _test_over = sender.send(Asked { path, headers, text, body, reply });
    match answered.await {
        Ok(response) => response,
        Err(_) => std::future::pending().await,
    }
}
