//! The endpoint that webhooks are posted to.

use std::{
    pin::Pin,
    time::{Duration, SystemTime},
};

use reqwest::{
    Client, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER},
    redirect, retry,
};
use tokio::time::timeout;
use url::Url;

use super::schedule;
use crate::{
    auth::signer::{self, Signer},
    config::Config,
};

/// How long a connection is kept that is not used. Node closes its own after 5 s, and a request that is sent
/// just then would be lost.
const IDLE: Duration = Duration::from_secs(4);

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
    client: Client,
    url: Url,
    signer: Option<Signer>,
    timeout: Duration,
}

impl Endpoint {
    /// The endpoint at `url`.
    ///
    /// # Errors
    /// When requests cannot be made at all, as the machine has no root certificates.
    pub(super) fn new(config: &Config, url: &str) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|error| error.to_string())?;
        let mut builder = Client::builder()
            // A redirect could lead anywhere, inside our network too.
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .pool_idle_timeout(IDLE)
            .user_agent(concat!("roomcast/", env!("CARGO_PKG_VERSION")));
        if url.scheme() == "http" {
            // Plain HTTP needs no root certificates, which the machine may lack.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| chain(&error))?;
        let signer = Signer::new(&config.webhook_secret);
        Ok(Self { client, url, signer, timeout: config.webhook_timeout })
    }

    async fn exchange(&self, id: &str, now: i64, body: String) -> Outcome {
        const JSON: HeaderValue = HeaderValue::from_static("application/json");
        let seconds = now / 1000;
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, JSON)
            .header(signer::ID, id)
            .header(signer::TIMESTAMP, seconds);
        if let Some(signer) = &self.signer {
            let signature = signer.sign(id, seconds, body.as_bytes());
            request = request.header(signer::SIGNATURE, signature);
        }
        let answer = match timeout(self.timeout, request.body(body).send()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                let why = format!("no connection: {}", chain(&error.without_url()));
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

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
