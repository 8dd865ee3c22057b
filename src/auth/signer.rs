//! Signs what is sent to an application's backend, as [Standard Webhooks] has it.
//!
//! [Standard Webhooks]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

use std::{fmt, sync::Arc};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::config::SigningSecrets;

/// The header with a message's id.
pub const ID: &str = "webhook-id";

/// The header with the time of signing, in seconds since 1970.
pub const TIMESTAMP: &str = "webhook-timestamp";

/// The header with the signatures.
pub const SIGNATURE: &str = "webhook-signature";

/// Signs with one key, or with two while one replaces the other. Cheap to clone.
#[derive(Clone)]
pub struct Signer(Arc<[hmac::Key]>);

impl Signer {
    /// A signer with these keys; `None` without one.
    pub fn new(secrets: &SigningSecrets) -> Option<Self> {
        let keys = secrets.expose().map(|key| hmac::Key::new(hmac::HMAC_SHA256, key));
        let keys = keys.collect::<Arc<[_]>>();
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// The signatures of a message, one for each key: the value of [`SIGNATURE`].
    pub fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        let signature = |key: &hmac::Key| {
            let mut signing = hmac::Context::with_key(key);
            signing.update(format!("{id}.{seconds}.").as_bytes());
            signing.update(body);
            format!("v1,{}", STANDARD.encode(signing.sign()))
        };
        self.0.iter().map(signature).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({} keys)", self.0.len())
    }
}
