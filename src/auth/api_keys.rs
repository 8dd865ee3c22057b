//! The API keys by which backends authenticate to the HTTP gateway.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use subtle::{ConditionallySelectable, ConstantTimeEq};

/// The configured API keys, kept as digests only.
#[derive(Clone, Default)]
pub struct ApiKeys(Vec<[u8; 32]>);

impl ApiKeys {
    /// Takes the configured keys. Empty ones are left out: no caller may pass with an empty key.
    // By value: the configuration's plain keys have no further use.
    #[allow(clippy::needless_pass_by_value)]
    pub fn new(keys: Vec<String>) -> Self {
        Self(keys.iter().filter(|key| !key.is_empty()).map(|key| sha256(key)).collect())
    }

    /// Whether no key is configured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of the configured key that `candidate` equals, if any.
    ///
    /// Digests have one length, and each is compared to its end. So the time taken tells neither which key
    /// matched, nor how much of one, nor how long the keys are.
    pub fn find(&self, candidate: &str) -> Option<usize> {
        let candidate = sha256(candidate);
        let mut found = 0;
        for (key, number) in self.0.iter().zip(1_u64..) {
            found.conditional_assign(&number, key.ct_eq(&candidate));
        }
        usize::try_from(found).ok()?.checked_sub(1)
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({} keys)", self.0.len())
    }
}

fn sha256(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_of_the_keys_matches_and_nothing_else() {
        let keys = ApiKeys::new(vec!["one".into(), "two".into()]);
        assert_eq!((keys.find("one"), keys.find("two")), (Some(0), Some(1)));
        for wrong in ["", "on", "one ", "One", "onetwo", "one,two"] {
            assert!(keys.find(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn an_empty_key_opens_nothing() {
        let keys = ApiKeys::new(vec![String::new()]);
        assert!(keys.is_empty() && keys.find("").is_none());
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(format!("{:?}", ApiKeys::new(vec!["one".into()])), "ApiKeys(1 keys)");
    }
}
