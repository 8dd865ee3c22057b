//! Issues tokens, for trying things out and for small set-ups without an issuer.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Map, Value};

use super::{
    KeyError,
    keys::{VerifyingKey, unescape},
};
use crate::protocol::names::UserId;

/// A key to sign tokens with, and the algorithm of its kind. `Debug` shows only the algorithm.
#[derive(Clone)]
pub struct SigningKey {
    key: EncodingKey,
    algorithm: Algorithm,
}

impl SigningKey {
    /// A shared secret: HS256.
    pub fn from_secret(secret: &str) -> Result<Self, KeyError> {
        // A secret that cannot verify must not sign.
        VerifyingKey::from_secret(secret)?;
        Ok(Self { key: EncodingKey::from_secret(secret.as_bytes()), algorithm: Algorithm::HS256 })
    }

    /// A private key in PEM: RS256, ES256, ES384 or `EdDSA` by its kind.
    pub fn from_private_pem(pem: &str) -> Result<Self, KeyError> {
        let pem = unescape(pem);
        let pem = pem.as_bytes();
        let candidates = [
            (EncodingKey::from_rsa_pem(pem), Algorithm::RS256),
            (EncodingKey::from_ec_pem(pem), Algorithm::ES256),
            (EncodingKey::from_ec_pem(pem), Algorithm::ES384),
            (EncodingKey::from_ed_pem(pem), Algorithm::EdDSA),
        ];
        candidates
            .into_iter()
            .filter_map(|(key, algorithm)| Some(Self { key: key.ok()?, algorithm }))
            // The kind does not tell the curve; a trial signature does.
            .find(|key| encode(&Header::new(key.algorithm), &Map::new(), &key.key).is_ok())
            .ok_or(KeyError::Signing)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?})", self.algorithm)
    }
}

/// The content of a token.
#[derive(Debug, Clone, Copy)]
pub struct Grant<'a> {
    /// `sub`: the user.
    pub user_id: &'a UserId,
    /// `name`: what the user's clients are called.
    pub name: Option<&'a str>,
    /// `rooms`: the patterns of the rooms permitted; `None` permits everything.
    pub rooms: Option<&'a [String]>,
    /// How long the token is valid; `None`: for ever.
    pub ttl: Option<Duration>,
    /// `iss`.
    pub issuer: Option<&'a str>,
    /// `aud`.
    pub audience: Option<&'a str>,
    /// The header's `kid`, which an issuer with several keys needs.
    pub key_id: Option<&'a str>,
}

/// Signs a token with the content of `grant`, issued at `now`.
pub fn issue(key: &SigningKey, grant: &Grant<'_>, now: SystemTime) -> Result<String, KeyError> {
    let seconds =
        |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut claims = Map::new();
    let mut put = |claim: &str, value: Option<Value>| {
        if let Some(value) = value {
            claims.insert(claim.to_owned(), value);
        }
    };
    put("sub", Some(grant.user_id.as_str().into()));
    put("name", grant.name.map(Value::from));
    put("rooms", grant.rooms.map(Value::from));
    put("iss", grant.issuer.map(Value::from));
    put("aud", grant.audience.map(Value::from));
    put("iat", Some(seconds(now).into()));
    put("exp", grant.ttl.map(|ttl| seconds(now).saturating_add(ttl.as_secs()).into()));
    let header = Header { kid: grant.key_id.map(str::to_owned), ..Header::new(key.algorithm) };
    encode(&header, &claims, &key.key).map_err(|_| KeyError::Signing)
}
