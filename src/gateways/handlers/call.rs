//! Requests to the backend: bounded in number, time and size, signed, and not sent again once the backend may
//! have begun.

use std::{
    borrow::Cow,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use reqwest::StatusCode;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::{
    config::Config,
    gateways::backend::BackendClient,
    protocol::{
        error_chain::error_chain,
        refusal::{Code, Refusal},
        timestamp::Timestamp,
    },
    telemetry::metrics::Metrics,
};

/// What the backend is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A client's event.
    Event,
    /// Who a new client is.
    Connect,
    /// Nothing: it is told that a client has gone.
    Disconnect,
}

impl Kind {
    /// The name in requests and metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Connect => "connect",
            Self::Disconnect => "disconnect",
        }
    }
}

/// What the backend answers, not read yet.
#[derive(Debug)]
pub(super) enum Reply {
    /// 204: nothing is to be done.
    Nothing,
    /// 202: the acknowledgement comes later.
    Later,
    /// 200: what is to be done.
    Fields(String),
    /// 4xx: why the event is refused.
    Refused(String),
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// No place became free in time.
    Busy,
    /// There was no answer in time.
    Late,
    /// The backend cannot be reached, or has closed the connection.
    Connection(String),
    /// An answer with another status.
    Status(StatusCode),
    /// The answer is larger than `MAX_PAYLOAD`.
    TooLarge,
    /// The answer is no JSON, or not what it should be.
    Invalid(String),
}

impl Failure {
    /// The name in metrics.
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Late => "timeout",
            Self::Connection(_) => "connection",
            Self::Status(_) => "status",
            Self::TooLarge => "too_large",
            Self::Invalid(_) => "invalid",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("no place was free within HANDLER_TIMEOUT"),
            Self::Late => f.write_str("no answer within HANDLER_TIMEOUT"),
            Self::Connection(why) => write!(f, "no connection: {why}"),
            Self::Status(status) => write!(f, "an answer with status {status}"),
            Self::TooLarge => f.write_str("an answer that is larger than MAX_PAYLOAD"),
            Self::Invalid(why) => write!(f, "an answer that is not valid: {why}"),
        }
    }
}

/// Clients are told no more than what they can do.
impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let message = match failure {
            Failure::Busy => "the application's backend is busy: try again later",
            Failure::Late => "the application's backend did not answer in time: try again later",
            _ => "the application's backend could not answer: try again later",
        };
        Self::new(Code::Unavailable, message)
    }
}

/// The backend has failed ever since.
#[derive(Debug, Clone)]
struct Failing {
    since: Timestamp,
    times: u64,
    why: &'static str,
}

/// The application's backend.
#[derive(Debug)]
pub(super) struct Backend {
    client: BackendClient,
    /// A request that is under way has a place.
    places: Semaphore,
    timeout: Duration,
    max_answer: usize,
    metrics: Arc<Metrics>,
    failing: Mutex<Option<Failing>>,
}

impl Backend {
    /// The backend that the configuration names.
    ///
    /// # Errors
    /// When requests cannot be made at all, as the machine has no root certificates.
    pub(super) fn new(config: &Config, url: &str, metrics: Arc<Metrics>) -> Result<Self, String> {
        Ok(Self {
            client: BackendClient::new(url, &config.handler_secret)?,
            places: Semaphore::new(usize::try_from(config.handler_concurrency).unwrap_or(1)),
            timeout: config.handler_timeout,
            max_answer: usize::try_from(config.max_payload).unwrap_or(usize::MAX),
            metrics,
            failing: Mutex::default(),
        })
    }

    /// How long an answer may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// What `/health` says of it.
    pub(super) fn state(&self) -> Cow<'static, str> {
        match &*self.failing.lock() {
            None => "answering".into(),
            Some(Failing { since, times, why }) => {
                format!("failing since {since}, {times} times: {why}").into()
            }
        }
    }

    /// Asks the backend, once, and reads its answer. `body` is called when the request has a place.
    pub(super) async fn ask<T>(
        &self,
        kind: Kind,
        id: &str,
        within: Duration,
        body: impl FnOnce() -> Vec<u8>,
        read: impl FnOnce(Reply) -> Result<T, String>,
    ) -> Result<T, Failure> {
        let answer = self.send(id, within, body).await;
        let refused = matches!(answer, Ok(Reply::Refused(_)));
        let answer = answer.and_then(|reply| read(reply).map_err(Failure::Invalid));
        let outcome = match &answer {
            Ok(_) if refused => "refused",
            Ok(_) => "ok",
            Err(failure) => failure.as_str(),
        };
        self.metrics.handler_asked(kind.as_str(), outcome);
        match &answer {
            Ok(_) => *self.failing.lock() = None,
            Err(failure) => {
                tracing::warn!(kind = kind.as_str(), id, reason = %failure, "the application's backend did not answer");
                let mut failing = self.failing.lock();
                let since = failing.as_ref().map_or_else(Timestamp::now, |before| before.since);
                let times = failing.as_ref().map_or(1, |before| before.times + 1);
                *failing = Some(Failing { since, times, why: outcome });
            }
        }
        answer
    }

    async fn send(
        &self,
        id: &str,
        within: Duration,
        body: impl FnOnce() -> Vec<u8>,
    ) -> Result<Reply, Failure> {
        let within = within.min(self.timeout);
        let _place = self.place(within).await?;
        let _under_way = Counted::new(&self.metrics, Metrics::handler_under_way);
        let begun = Instant::now();
        let reply = timeout(within, self.exchange(id, body())).await;
        let reply = reply.map_err(|_| Failure::Late)??;
        self.metrics.handler_answered(begun.elapsed());
        Ok(reply)
    }

    /// Waits for a place: first come, first served.
    async fn place(&self, within: Duration) -> Result<SemaphorePermit<'_>, Failure> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok(place);
        }
        let _waiting = Counted::new(&self.metrics, Metrics::handler_waiting);
        let place = timeout(within, self.places.acquire()).await;
        // Nobody closes the semaphore.
        place.ok().and_then(Result::ok).ok_or(Failure::Busy)
    }

    async fn exchange(&self, id: &str, body: Vec<u8>) -> Result<Reply, Failure> {
        let seconds = Timestamp::now().as_millis() / 1000;
        let lost = |error: reqwest::Error| Failure::Connection(error_chain(&error.without_url()));
        let mut response = self.client.post(id, seconds, body).send().await.map_err(lost)?;
        let status = response.status();
        match status {
            StatusCode::NO_CONTENT => return Ok(Reply::Nothing),
            StatusCode::ACCEPTED => return Ok(Reply::Later),
            StatusCode::OK => {}
            status if status.is_client_error() => {}
            status => return Err(Failure::Status(status)),
        }
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            if answer.len() + chunk.len() > self.max_answer {
                return Err(Failure::TooLarge);
            }
            answer.extend_from_slice(&chunk);
        }
        let text = String::from_utf8(answer);
        let text = text.map_err(|_| Failure::Invalid("it is not UTF-8".to_owned()))?;
        Ok(if status == StatusCode::OK { Reply::Fields(text) } else { Reply::Refused(text) })
    }
}

/// Counts one more in a gauge, for as long as it lives.
struct Counted<'a>(&'a Metrics, fn(&Metrics, i64));

impl<'a> Counted<'a> {
    fn new(metrics: &'a Metrics, count: fn(&Metrics, i64)) -> Self {
        count(metrics, 1);
        Self(metrics, count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        (self.1)(self.0, -1);
    }
}
