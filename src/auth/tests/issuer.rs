//! An issuer of tokens that publishes its keys over HTTP.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use parking_lot::Mutex;
use tokio::{
    net::TcpListener,
    sync::{RwLock, watch},
    task::JoinHandle,
    time::Instant,
};

use super::*;

pub(super) type Answer = Arc<dyn Fn() -> Response + Send + Sync>;

/// An issuer on this machine that counts its requests.
pub(super) struct Issuer {
    pub(super) url: String,
    answer: Arc<Mutex<Answer>>,
    pub(super) asked: watch::Receiver<usize>,
    /// While this is held for writing, answers wait.
    pub(super) gate: Arc<RwLock<()>>,
    pub(super) server: JoinHandle<()>,
}

impl Issuer {
    pub(super) async fn publishing(keys: &[Value]) -> Self {
        let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(set_of(keys)));
        let gate = Arc::new(RwLock::new(()));
        let (count, asked) = watch::channel(0);
        let handler = {
            let (answer, gate, count) = (Arc::clone(&answer), Arc::clone(&gate), Arc::new(count));
            move || {
                let (answer, gate, count) =
                    (Arc::clone(&answer), Arc::clone(&gate), Arc::clone(&count));
                async move {
                    count.send_modify(|count| *count += 1);
                    let _open = gate.read().await;
                    let answer = answer.lock().clone();
                    answer()
                }
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        let app = Router::new().route("/jwks.json", get(handler));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, answer, asked, gate, server }
    }

    pub(super) fn now_publishes(&self, keys: &[Value]) {
        self.now_answers(set_of(keys));
    }

    pub(super) fn now_answers(&self, answer: Answer) {
        *self.answer.lock() = answer;
    }

    pub(super) fn asked(&self) -> usize {
        *self.asked.borrow()
    }

    pub(super) fn verifier(&self) -> At {
        At { verifier: verifier(KeySource::JwksUrl(self.url.clone())), start: Instant::now() }
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A verifier with a clock set by the test, counted from the start.
pub(super) struct At {
    pub(super) verifier: Verifier,
    start: Instant,
}

impl At {
    pub(super) async fn verify(&self, after: Duration, token: &str) -> Result<String, AuthError> {
        let identity =
            self.verifier.verify_at(token, SystemTime::now(), self.start + after).await?;
        Ok(user(&identity).to_owned())
    }
}

pub(super) fn json_answer(document: &Value) -> Answer {
    let text = document.to_string();
    Arc::new(move || text.clone().into_response())
}

pub(super) fn set_of(keys: &[Value]) -> Answer {
    json_answer(&json!({"keys": keys}))
}

pub(super) fn status(status: StatusCode) -> Answer {
    Arc::new(move || status.into_response())
}
