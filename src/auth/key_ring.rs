//! The configured keys, among which that of a token is found.

use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::{AuthError, keys::VerifyingKey};

/// Keys, each with the id by which tokens name it, if it has one. Few: each may be tried.
#[derive(Debug, Default)]
pub(super) struct KeyRing(pub(super) Vec<(Option<String>, VerifyingKey)>);

impl KeyRing {
    /// The token's claims, if one of the keys signed it. Where a key has the id that the token names, only
    /// keys of that id are tried; else the keys without an id; all of them where the token names none.
    pub(super) fn verify(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        token: &str,
    ) -> Result<Map<String, Value>, AuthError> {
        let is_named = |id: &Option<String>| id.is_some() && id.as_deref() == kid;
        let knows_name = self.0.iter().any(|(id, _)| is_named(id));
        let mut refusal = AuthError::UnknownKey;
        for (id, key) in &self.0 {
            let is_candidate =
                if knows_name { is_named(id) } else { kid.is_none() || id.is_none() };
            if !is_candidate {
                continue;
            }
            if !key.allows(algorithm) {
                if refusal == AuthError::UnknownKey {
                    refusal = AuthError::Algorithm;
                }
                continue;
            }
            match key.verify(token) {
                Err(AuthError::Signature) => refusal = AuthError::Signature,
                verdict => return verdict,
            }
        }
        Err(refusal)
    }
}
