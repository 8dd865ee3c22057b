//! Who may log in: by user name and password, or by the session of an earlier login.

use std::{
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use hashlink::LruCache;
use parking_lot::Mutex;
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use super::attempts::Attempts;
use crate::config::PasswordHash;

/// How long after its login a session is valid.
const SESSION: Duration = Duration::from_hours(24);
/// How many sessions are remembered; the oldest go first.
const SESSIONS: usize = 1000;
/// How many passwords are checked at a time: each takes a processor, and 19 MB with argon2.
const CHECKS: usize = 2;

/// What a client gives to log in.
#[derive(Default)]
pub(super) struct Credentials {
    /// The session of an earlier login.
    pub session: Option<String>,
    /// The user name.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
}

/// How a client logged in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// By a session.
    Known,
    /// By the password; this is its session, a secret.
    New(String),
}

/// Why a login was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// Wrong user name or password.
    Credentials,
    /// Its address has failed too often and must wait.
    TooMany(Duration),
}

impl fmt::Display for Denied {
    /// The text that the client gets; the official page knows the first one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credentials => f.write_str("invalid credentials"),
            Self::TooMany(wait) => {
                let seconds = wait.as_millis().div_ceil(1000).max(1);
                write!(f, "too many failed logins from this address: try again in {seconds} s")
            }
        }
    }
}

/// The one user, with the open sessions and the failed attempts.
#[derive(Debug)]
pub(super) struct Login {
    username: String,
    password: Arc<PasswordHash>,
    attempts: Attempts,
    sessions: Mutex<LruCache<String, Instant>>,
    checks: Semaphore,
}

impl Login {
    /// A login for this user.
    pub(super) fn new(username: String, password: PasswordHash) -> Self {
        Self {
            username,
            password: Arc::new(password),
            attempts: Attempts::new(),
            sessions: Mutex::new(LruCache::new(SESSIONS)),
            checks: Semaphore::new(CHECKS),
        }
    }

    /// Checks a login. With a wrong user name, too, the password is checked, so that the time it takes tells
    /// nothing about the name.
    pub(super) async fn admit(
        &self,
        given: Credentials,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Result<Admission, Denied> {
        if given.session.is_some_and(|session| self.is_open(&session, now)) {
            return Ok(Admission::Known);
        }
        // A page that comes back with an expired session has guessed nothing.
        if given.username.is_none() && given.password.is_none() {
            return Err(Denied::Credentials);
        }
        self.attempts.begin(address, now).map_err(Denied::TooMany)?;
        let username = given.username.unwrap_or_default();
        let is_user = bool::from(username.as_bytes().ct_eq(self.username.as_bytes()));
        let is_password = self.check(given.password.unwrap_or_default()).await;
        if !(is_user & is_password) {
            return Err(Denied::Credentials);
        }
        self.attempts.succeeded(address);
        let session = uuid::Uuid::new_v4().simple().to_string();
        self.sessions.lock().insert(session.clone(), now);
        Ok(Admission::New(session))
    }

    fn is_open(&self, session: &str, now: Instant) -> bool {
        // Not `get`, which would make it the newest: a session ends a day after its login.
        let since = self.sessions.lock().peek(session).copied();
        since.is_some_and(|since| now.saturating_duration_since(since) < SESSION)
    }

    async fn check(&self, password: String) -> bool {
        // The semaphore is never closed, so this never fails.
        let Ok(_permit) = self.checks.acquire().await else { return false };
        let hash = self.password.clone();
        // A panic in the check counts as a wrong password.
        tokio::task::spawn_blocking(move || hash.verify(&password)).await.unwrap_or(false)
    }
}
