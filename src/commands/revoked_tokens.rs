//! The revoked tokens, as this node knows them.

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::{
    auth::{Issued, RevocationList},
    protocol::{names::UserId, timestamp::Timestamp},
    store::RevocationCursor,
};

/// The revocations that this node knows.
#[derive(Debug)]
pub struct RevokedTokens {
    pub(super) list: RwLock<RevocationList>,
    /// Where the next read continues; locked while one is under way.
    pub(super) cursor: tokio::sync::Mutex<RevocationCursor>,
    /// Whether they were read at all.
    pub(super) loaded: watch::Sender<bool>,
}

impl Default for RevokedTokens {
    fn default() -> Self {
        Self {
            list: RwLock::default(),
            cursor: tokio::sync::Mutex::default(),
            loaded: watch::Sender::new(false),
        }
    }
}

impl RevokedTokens {
    /// Whether a token of this user is revoked.
    pub(super) fn is_revoked(&self, user: &UserId, issued: &Issued) -> bool {
        self.list.read().is_revoked(user, issued, Timestamp::now())
    }
}
