//! The issuer's keys: a JSON Web Key Set, fetched, cached and kept fresh.
//!
//! Invariants: one fetch at a time, shared by all who need it; no fetch within [`INTERVAL`] of the one
//! before, nor within the back-off after a failure, however many tokens name unknown keys; a good set stays
//! in use until there is a newer one.

use std::{fmt, sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, AlgorithmFamily, jwk::Jwk};
use parking_lot::Mutex;
use reqwest::{Client, header::CONTENT_TYPE, redirect};
use serde::Deserialize;
use serde_json::Value;
use tokio::{sync::watch, time::Instant};
use url::Url;

use super::{AuthError, KeyError, keys::VerifyingKey};
use crate::protocol::error_chain::error_chain;

/// How long a set is used before a newer one is fetched in the background.
pub(super) const MAX_AGE: Duration = Duration::from_mins(10);
/// The least time between two fetches.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);
/// The longest back-off after failures.
pub(super) const MAX_BACK_OFF: Duration = Duration::from_mins(1);
/// How long one fetch may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The greatest size of an answer, in bytes.
pub(super) const MAX_BYTES: usize = 1_000_000;
/// The greatest number of keys in a set.
pub(super) const MAX_KEYS: usize = 100;

/// The keys published at one address. Cheap to clone; clones share the cache.
#[derive(Clone)]
pub(super) struct Jwks(Arc<Inner>);

struct Inner {
    url: Url,
    client: Client,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The last good set.
    set: Option<Arc<KeySet>>,
    /// When that set was requested.
    asked: Option<Instant>,
    /// No fetch before this.
    not_before: Option<Instant>,
    /// Fetches that failed since the last good one.
    failures: u32,
    /// Open while a fetch is under way.
    flight: Option<watch::Receiver<()>>,
}

impl Jwks {
    pub(super) fn new(url: &str) -> Result<Self, KeyError> {
        let url = Url::parse(url).map_err(|error| KeyError::Url(error.to_string()))?;
        let mut builder = Client::builder()
            .timeout(TIMEOUT)
            // A redirect could lead anywhere, inside our network too.
            .redirect(redirect::Policy::none())
            .user_agent(concat!("roomcast/", env!("CARGO_PKG_VERSION")));
        builder = match url.scheme() {
            "https" => builder,
            // Plain HTTP needs no root certificates, which the machine may lack.
            "http" => builder.tls_certs_only([]),
            _ => return Err(KeyError::Url("it is of another scheme".to_owned())),
        };
        let client = builder.build().map_err(|error| KeyError::Client(error_chain(&error)))?;
        Ok(Self(Arc::new(Inner { url, client, state: Mutex::default() })))
    }

    /// Fetches the keys if there are none yet.
    pub(super) async fn prepare(&self, now: Instant) -> Result<(), AuthError> {
        if self.0.state.lock().set.is_none() {
            self.refresh(now).await;
        }
        self.0.state.lock().set.as_ref().map(|_| ()).ok_or(AuthError::Unavailable)
    }

    /// The key that verifies a token with this header.
    pub(super) async fn key(
        &self,
        now: Instant,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Arc<VerifyingKey>, AuthError> {
        if algorithm.family() == AlgorithmFamily::Hmac {
            return Err(AuthError::Algorithm);
        }
        match self.find(kid, algorithm) {
            Ok(key) => {
                if self.is_stale(now) {
                    // Nobody waits for the fetch: it is a task of its own.
                    self.0.fly(now);
                }
                Ok(key)
            }
            Err(AuthError::Algorithm) => Err(AuthError::Algorithm),
            Err(_) => {
                self.refresh(now).await;
                self.find(kid, algorithm)
            }
        }
    }

    fn find(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Arc<VerifyingKey>, AuthError> {
        let set = self.0.state.lock().set.clone();
        set.ok_or(AuthError::Unavailable)?.find(kid, algorithm)
    }

    fn is_stale(&self, now: Instant) -> bool {
        let asked = self.0.state.lock().asked;
        asked.is_none_or(|asked| now.saturating_duration_since(asked) >= MAX_AGE)
    }

    /// Waits for a fetch, if one is under way or may begin.
    async fn refresh(&self, now: Instant) {
        if let Some(mut flight) = self.0.fly(now) {
            // Nothing is ever sent: an error says that the fetch is over.
            let _over = flight.changed().await;
        }
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jwks({})", self.0.shown())
    }
}

impl Inner {
    /// The address without user, password and query, which may be secret.
    fn shown(&self) -> String {
        format!("{}{}", self.url.origin().ascii_serialization(), self.url.path())
    }

    /// Begins a fetch, or joins the one under way; `None` if none may begin yet.
    ///
    /// The fetch is a task of its own, so that it does not end with the client that caused it. It
    /// ends by itself, within [`TIMEOUT`].
    fn fly(self: &Arc<Self>, now: Instant) -> Option<watch::Receiver<()>> {
        let mut state = self.state.lock();
        if let Some(flight) = state.flight.as_ref().filter(|flight| flight.has_changed().is_ok()) {
            return Some(flight.clone());
        }
        if state.not_before.is_some_and(|not_before| now < not_before) {
            return None;
        }
        let (under_way, flight) = watch::channel(());
        state.flight = Some(flight.clone());
        state.not_before = Some(now + INTERVAL);
        drop(state);
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = inner.fetch().await;
            inner.land(now, outcome);
            drop(under_way);
        });
        Some(flight)
    }

    fn land(&self, asked: Instant, outcome: Result<KeySet, FetchError>) {
        let mut state = self.state.lock();
        state.flight = None;
        match outcome {
            Ok(set) => {
                state.set = Some(Arc::new(set));
                state.asked = Some(asked);
                if std::mem::take(&mut state.failures) > 0 {
                    tracing::info!(jwks = self.shown(), "the issuer's keys are available again");
                }
            }
            Err(error) => {
                state.failures = state.failures.saturating_add(1);
                let back_off = back_off(state.failures);
                state.not_before = Some(asked + back_off);
                tracing::warn!(
                    jwks = self.shown(),
                    %error,
                    retry_after_seconds = back_off.as_secs(),
                    keys_in_use = state.set.is_some(),
                    "the issuer's keys could not be fetched"
                );
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let mut response = self.client.get(self.url.clone()).send().await?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        KeySet::parse(&body).map_err(|error| match (error, response.headers().get(CONTENT_TYPE)) {
            (FetchError::NotJwks, Some(kind)) => {
                FetchError::NotJwksBut(kind.to_str().unwrap_or_default().to_owned())
            }
            (error, _) => error,
        })
    }
}

/// 10, 20, 40, then 60 seconds.
fn back_off(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(8);
    (INTERVAL * 2_u32.pow(doublings)).min(MAX_BACK_OFF)
}

/// The usable keys of a set with their ids.
struct KeySet(Vec<(Option<String>, Arc<VerifyingKey>)>);

impl KeySet {
    fn parse(body: &[u8]) -> Result<Self, FetchError> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let Document { keys } = serde_json::from_slice(body).map_err(|_| FetchError::NotJwks)?;
        if keys.len() > MAX_KEYS {
            return Err(FetchError::TooMany);
        }
        // A key of an unknown kind leaves the others usable.
        let usable: Vec<_> = keys
            .into_iter()
            .filter_map(|key| serde_json::from_value::<Jwk>(key).ok())
            .filter_map(|jwk| {
                Some((jwk.common.key_id.clone(), Arc::new(VerifyingKey::from_jwk(&jwk)?)))
            })
            .collect();
        if usable.is_empty() { Err(FetchError::NoneUsable) } else { Ok(Self(usable)) }
    }

    fn find(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Arc<VerifyingKey>, AuthError> {
        let fitting = |key: &&(Option<String>, Arc<VerifyingKey>)| key.1.allows(algorithm);
        let Some(kid) = kid else {
            let mut fitting = self.0.iter().filter(fitting);
            return match (fitting.next(), fitting.next()) {
                (Some((_, key)), None) => Ok(Arc::clone(key)),
                _ => Err(AuthError::KeyNotNamed),
            };
        };
        let mut named = self.0.iter().filter(|(id, _)| id.as_deref() == Some(kid)).peekable();
        if named.peek().is_none() {
            return Err(AuthError::UnknownKey);
        }
        named.find(fitting).map(|(_, key)| Arc::clone(key)).ok_or(AuthError::Algorithm)
    }
}

/// Why a fetch failed, for the log.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("{0}")]
    Transport(String),
    #[error("the status is {0}, and 200 is needed (redirects are not followed)")]
    Status(u16),
    #[error("the answer is larger than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("the answer is no JSON Web Key Set")]
    NotJwks,
    #[error("the answer is no JSON Web Key Set but {0}")]
    NotJwksBut(String),
    #[error("the set has more than {MAX_KEYS} keys")]
    TooMany,
    #[error("the set has no key that can verify a signature")]
    NoneUsable,
}

impl From<reqwest::Error> for FetchError {
    fn from(error: reqwest::Error) -> Self {
        Self::Transport(error_chain(&error.without_url()))
    }
}
