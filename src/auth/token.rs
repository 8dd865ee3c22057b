//! From a token to an identity.

use std::{sync::Arc, time::SystemTime};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    AuthError, Identity, KeyError, KeySource, MAX_TOKEN_BYTES, NamedKey, Settings,
    claims::{self, Claims, Rules},
    jwks::Jwks,
    key_ring::KeyRing,
    keys::VerifyingKey,
};

/// Checks tokens with the configured keys. Cheap to clone; clones share the issuer's keys.
#[derive(Debug, Clone)]
pub struct Verifier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    keys: Keys,
    rules: Rules,
}

#[derive(Debug)]
enum Keys {
    Fixed(KeyRing),
    Issuer(Jwks),
}

impl Verifier {
    /// Reads the keys. A JWKS is not fetched yet: that is done by [`Self::prepare`] or the first
    /// verification.
    pub fn new(settings: Settings) -> Result<Self, KeyError> {
        let mut keys = Keys::Fixed(KeyRing::default());
        for NamedKey { id, source } in settings.keys {
            let key = match source {
                KeySource::Secret(secret) => VerifyingKey::from_secret(&secret)?,
                KeySource::PublicKeyPem(pem) => VerifyingKey::from_public_pem(&pem)?,
                KeySource::JwksUrl(url) => {
                    keys = Keys::Issuer(Jwks::new(&url)?);
                    break;
                }
            };
            if let Keys::Fixed(ring) = &mut keys {
                ring.0.push((id, key));
            }
        }
        let Settings { issuer, audience, default_rooms, .. } = settings;
        let rules = Rules { issuer, audience, default_rooms };
        Ok(Self(Arc::new(Inner { keys, rules })))
    }

    /// Fetches the issuer's keys, if there is a JWKS, so that the first client need not wait. May fail with
    /// [`AuthError::Unavailable`]; verifications then try again by themselves.
    pub async fn prepare(&self) -> Result<(), AuthError> {
        match &self.0.keys {
            Keys::Issuer(jwks) => jwks.prepare(Instant::now()).await,
            Keys::Fixed(_) => Ok(()),
        }
    }

    /// Verifies `token` and returns its identity. Waits only if the issuer's keys have to be fetched.
    pub async fn verify(&self, token: &str) -> Result<Identity, AuthError> {
        self.verify_at(token, SystemTime::now(), Instant::now()).await
    }

    /// Like [`Self::verify`], with the time of day for checking the claims, and the instant for the age of
    /// the issuer's keys.
    pub(super) async fn verify_at(
        &self,
        token: &str,
        now: SystemTime,
        instant: Instant,
    ) -> Result<Identity, AuthError> {
        let Parts { header, .. } = Parts::of(token)?;
        if header.crit.is_some() {
            return Err(AuthError::Critical);
        }
        // `none` is no algorithm here, and neither is one that no key here can have.
        let algorithm: Algorithm = header.alg.parse().map_err(|_| AuthError::Algorithm)?;
        let claims = match &self.0.keys {
            Keys::Fixed(keys) => keys.verify(header.kid.as_deref(), algorithm, token)?,
            Keys::Issuer(jwks) => {
                jwks.key(instant, header.kid.as_deref(), algorithm).await?.verify(token)?
            }
        };
        let identity = claims::identity(&claims, &self.0.rules, now)?;
        Ok(Identity { claims, ..identity })
    }
}

/// The parts of a token's header that choose the key.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    crit: Option<Value>,
}

/// A token taken apart; nothing in it may be trusted before its signature is verified.
pub(super) struct Parts<'a> {
    pub(super) header: Header,
    payload: &'a str,
}

impl<'a> Parts<'a> {
    pub(super) fn of(token: &'a str) -> Result<Self, AuthError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::TooLarge);
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(_signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(AuthError::Malformed);
        };
        Ok(Self { header: part(header)?, payload })
    }

    pub(super) fn unverified_claims(&self) -> Result<Claims, AuthError> {
        part(self.payload)
    }
}

fn part<T: DeserializeOwned>(encoded: &str) -> Result<T, AuthError> {
    let json = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| AuthError::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| AuthError::Malformed)
}
