//! The endpoint that webhooks are posted to.

use std::{
    pin::Pin,
    time::{Duration, SystemTime},
};

use reqwest::{Response, StatusCode, header::RETRY_AFTER};
use tokio::time::timeout;

use super::schedule;
use crate::{config::Config, gateways::backend::BackendClient, protocol::error_chain::error_chain};

/// How much of an answer is read, in bytes, and for how long: it is only read so that the connection can be
/// used again.
const READ: usize = 64 * 1024;
const READ_FOR: Duration = Duration::from_secs(1);

/// What became of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The backend has it.
    Delivered,
    /// The endpoint wants no more.
    Gone,
    /// It is to be tried again.
    Failed {
        /// The name in metrics.
        reason: &'static str,
        /// For people.
        why: String,
        /// When the endpoint wants it again.
        retry_after: Option<Duration>,
    },
}

impl Outcome {
    /// The name in metrics.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Gone => "gone",
            Self::Failed { reason, .. } => reason,
        }
    }
}

/// Where webhooks are posted to.
pub(super) trait Post: Send + Sync + 'static {
    /// Posts a webhook once; `now` is in milliseconds since 1970-01-01 UTC.
    fn post<'a>(
        &'a self,
        id: &'a str,
        now: i64,
        body: String,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;
}

/// The endpoint of the configuration.
#[derive(Debug)]
pub(super) struct Endpoint {
    client: BackendClient,
    timeout: Duration,
}

impl Endpoint {
    /// The endpoint at `url`.
    ///
    /// # Errors
    /// When requests cannot be made at all, as the machine has no root certificates.
    pub(super) fn new(config: &Config, url: &str) -> Result<Self, String> {
        let client = BackendClient::new(url, &config.webhook_secret)?;
        Ok(Self { client, timeout: config.webhook_timeout })
    }

    async fn exchange(&self, id: &str, now: i64, body: String) -> Outcome {
        let request = self.client.post(id, now / 1000, body);
        let answer = match timeout(self.timeout, request.send()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                let why = format!("no connection: {}", error_chain(&error.without_url()));
                return Outcome::Failed { reason: "connection", why, retry_after: None };
            }
            Err(_) => {
                let why = "no answer within WEBHOOK_TIMEOUT".to_owned();
                return Outcome::Failed { reason: "timeout", why, retry_after: None };
            }
        };
        let (status, wanted) = (answer.status(), wanted(&answer));
        // Too long, or broken off: only the connection is lost.
        let _read = timeout(READ_FOR, drain(answer)).await;
        match status {
            status if status.is_success() => Outcome::Delivered,
            StatusCode::GONE => Outcome::Gone,
            status => Outcome::Failed {
                reason: "status",
                why: format!("an answer with status {status}"),
                retry_after: wanted,
            },
        }
    }
}

impl Post for Endpoint {
    fn post<'a>(
        &'a self,
        id: &'a str,
        now: i64,
        body: String,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        Box::pin(self.exchange(id, now, body))
    }
}

/// When the endpoint wants the webhook again.
fn wanted(answer: &Response) -> Option<Duration> {
    let header = answer.headers().get(RETRY_AFTER)?.to_str().ok()?;
    schedule::retry_after(header, SystemTime::now())
}

async fn drain(mut answer: Response) {
    let mut read = 0;
    while let Ok(Some(chunk)) = answer.chunk().await {
        read += chunk.len();
        if read > READ {
            return;
        }
    }
}
