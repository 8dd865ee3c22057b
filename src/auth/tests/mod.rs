//! What the tests share.

mod attacks;
mod commands;
mod issuer;
mod jwks;
mod signer;
mod tokens;

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::{AuthError, Identity, KeySource, NamedKey, Settings, Verifier};
use crate::protocol::permissions::Permissions;

pub(super) const SECRET: &str = "a secret of the tests, 32 bytes and more";

/// A file of `tests/fixtures/keys`.
pub(super) fn fixture(name: &str) -> String {
    let path = format!("{}/tests/fixtures/keys/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn off() -> Settings {
    Settings {
        keys: vec![],
        issuer: None,
        audience: None,
        default_rooms: Permissions::everything(),
    }
}

fn settings(key: KeySource) -> Settings {
    Settings { keys: vec![key.into()], ..off() }
}

fn verifier(key: KeySource) -> Verifier {
    Verifier::new(settings(key)).unwrap()
}

fn with_secret() -> Verifier {
    verifier(KeySource::Secret(SECRET.to_owned()))
}

fn with_public_key(name: &str) -> Verifier {
    verifier(KeySource::PublicKeyPem(fixture(name)))
}

async fn refusal(verifier: &Verifier, token: &str) -> AuthError {
    verifier.verify(token).await.unwrap_err()
}

fn in_an_hour() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3600
}

fn alice() -> Value {
    json!({"sub": "alice", "exp": in_an_hour()})
}

fn private_key(name: &str) -> EncodingKey {
    let pem = fixture(name);
    let pem = pem.as_bytes();
    match name {
        _ if name.starts_with("rsa") => EncodingKey::from_rsa_pem(pem),
        _ if name.starts_with("ec") => EncodingKey::from_ec_pem(pem),
        _ => EncodingKey::from_ed_pem(pem),
    }
    .unwrap()
}

fn secret() -> EncodingKey {
    EncodingKey::from_secret(SECRET.as_bytes())
}

fn sign(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, key).unwrap()
}

fn sign_as(kid: &str, algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) };
    encode(&header, claims, key).unwrap()
}

fn user(identity: &Identity) -> &str {
    identity.user_id.as_str()
}
