//! Keys, tokens, identities, room permissions and API keys.
//!
//! A [`Verifier`] is built once from [`Settings`] and turns a token into an [`Identity`] or an error. Each
//! key fixes the algorithms that tokens may be signed with; a token never does. So there is no key that
//! accepts an unsigned token, or one signed with the text of a public key as if it were a secret.
//!
//! Cryptography is jsonwebtoken's over aws-lc-rs, on which rustls runs too, so the binary has one
//! implementation. The alternative (`rust_crypto`) brings the `rsa` crate with its unresolved timing
//! advisory (RUSTSEC-2023-0071).

mod api_keys;
mod claims;
pub mod command;
mod error;
mod explain;
mod issue;
mod jwks;
mod key_ring;
mod keys;
mod revocations;
pub mod signer;
#[cfg(test)]
mod tests;
mod token;

use std::{fmt, time::SystemTime};

use serde_json::{Map, Value};

pub use self::{
    api_keys::ApiKeys,
    claims::permissions,
    error::{AuthError, KeyError, MAX_TOKEN_BYTES},
    explain::explain,
    issue::{Grant, SigningKey, issue},
    revocations::{Issued, Revocation, RevocationList},
    token::Verifier,
};
use crate::{
    config::{Config, TokenKey},
    protocol::{
        names::{RoomName, UserId},
        permissions::Permissions,
    },
};

/// Where the key that checks tokens comes from. `Debug` shows the kind only.
#[derive(Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A secret that is shared with the issuer: HS256, HS384, HS512.
    Secret(String),
    /// The text of a public key or certificate in PEM; `\n` may stand for a line break.
    PublicKeyPem(String),
    /// The `http://` or `https://` address of the issuer's JSON Web Key Set.
    JwksUrl(String),
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Secret(_) => "Secret",
            Self::PublicKeyPem(_) => "PublicKeyPem",
            Self::JwksUrl(_) => "JwksUrl",
        };
        f.debug_tuple(kind).field(&"[redacted]").finish()
    }
}

/// A configured key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedKey {
    /// The id (`kid`) by which tokens name it, if it has one.
    pub id: Option<String>,
    /// The key.
    pub source: KeySource,
}

impl From<KeySource> for NamedKey {
    fn from(source: KeySource) -> Self {
        Self { id: None, source }
    }
}

/// How clients authenticate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The keys; without one, authentication is off. A key set stands alone.
    pub keys: Vec<NamedKey>,
    /// The `iss` that a token must have.
    pub issuer: Option<String>,
    /// The `aud` that a token must have, alone or among others.
    pub audience: Option<String>,
    /// The rooms that a token without the claim `rooms` permits.
    pub default_rooms: Permissions,
}

impl Settings {
    /// How clients authenticate, as configured.
    pub fn of(config: &Config) -> Self {
        let named = |keys: &[TokenKey], source: fn(String) -> KeySource| {
            let key = |key: &TokenKey| NamedKey {
                id: key.id.clone(),
                source: source(key.text.expose().to_owned()),
            };
            keys.iter().map(key).collect::<Vec<_>>()
        };
        let mut keys = named(&config.token_secrets(), KeySource::Secret);
        keys.extend(named(&config.token_public_keys(), KeySource::PublicKeyPem));
        keys.extend(config.jwt_jwks_url.clone().map(|url| KeySource::JwksUrl(url).into()));
        Self {
            keys,
            issuer: config.jwt_issuer.clone(),
            audience: config.jwt_audience.clone(),
            default_rooms: config.rooms_default.permissions(),
        }
    }
}

/// The user that a token names, and its permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user: the token's `sub`, else its `id`.
    pub user_id: UserId,
    /// The token's `name`.
    pub client_name: Option<String>,
    /// When the token expires; `None`: never.
    pub expires_at: Option<SystemTime>,
    /// The rooms that it permits.
    pub rooms: Permissions,
    /// All its claims.
    pub claims: Map<String, Value>,
    /// The rooms that its client is in from the start.
    pub join: Vec<RoomName>,
    /// What a revocation of the token goes by, beside the user.
    pub issued: Issued,
}
