//! Who a client is and what it may do.

use std::{sync::Arc, time::SystemTime};

use serde_json::value::RawValue;

use crate::{
    auth::Issued,
    config::Config,
    protocol::{
        names::{RoomName, UserId},
        permissions::Permissions,
    },
};

/// Who the client is and what it may do; `authenticate` renews it.
#[derive(Debug, Clone)]
pub struct Session {
    /// The user, once known.
    pub user: Option<UserId>,
    /// What it may do with which rooms.
    pub permissions: Permissions,
    /// The rooms that it is in from the start; it may join them again.
    pub join: Arc<[RoomName]>,
    /// When the token expires.
    pub expires_at: Option<SystemTime>,
    /// What the token's revocation goes by; `None` without a token.
    pub issued: Option<Issued>,
    /// The claims of its token, or the backend's, where a backend is told them.
    pub claims: Option<Arc<RawValue>>,
    /// What of this the backend said.
    pub said: Said,
}

/// What a backend has said of a client as it connected. No token changes it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Said {
    /// Its permissions.
    pub permissions: bool,
    /// Until when it may stay.
    pub expires_at: bool,
    /// Its claims.
    pub claims: bool,
}

impl Session {
    /// The session of a client without a token: nobody, with what `ANONYMOUS_ROOMS` permits.
    pub fn anonymous(config: &Config) -> Self {
        Self {
            user: None,
            permissions: config.anonymous_permissions(),
            join: Arc::default(),
            expires_at: None,
            issued: None,
            claims: None,
            said: Said::default(),
        }
    }

    /// This session, that of a newer token, but for what the backend has said.
    #[must_use]
    pub fn under(mut self, before: Self) -> Self {
        let said = before.said;
        if said.permissions {
            (self.permissions, self.join) = (before.permissions, before.join);
        }
        if said.expires_at {
            self.expires_at = before.expires_at;
        }
        if said.claims {
            self.claims = before.claims;
        }
        Self { said, ..self }
    }
}
