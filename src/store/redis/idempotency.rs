//! Writes that happen once.

use std::time::Duration;

use bytes::BufMut;

use super::{Redis, intake::Kind, millis, scripts};
use crate::{
    limits::SenderId,
    store::{
        idempotency::{Digest, Once},
        pending::Answer,
    },
};

impl Redis {
    /// Remembers a key with its answer; with a lease, only claims it.
    pub(in crate::store) fn claim_key(&self, once: &Once, lease: Option<Duration>) -> Answer {
        let packed = self.pack(once, lease.unwrap_or(self.settings.idempotency_window));
        let bytes = packed.len();
        let mut call = self.call(&scripts::CLAIM_ONCE);
        call.arg(packed).arg(name_of(once.sender.as_ref())).arg(u8::from(lease.is_some()));
        self.submit(call, Kind::Claim, once.sender.clone(), bytes)
    }

    /// Keeps a key for its content, of a message that another instance stores.
    pub(super) fn bind_key(&self, once: &Once) -> Answer {
        let packed = self.pack_once(Some(once));
        let bytes = packed.len();
        let mut call = self.call(&scripts::BIND_ONCE);
        call.arg(packed);
        self.submit(call, Kind::Claim, once.sender.clone(), bytes)
    }

    pub(in crate::store) fn settle_claim(&self, once: &Once) -> Answer {
        let packed = self.pack_once(Some(once));
        let bytes = packed.len();
        let mut call = self.call(&scripts::SETTLE_ONCE);
        call.arg(packed).arg(name_of(once.sender.as_ref()));
        self.submit(call, Kind::Count, None, bytes)
    }

    pub(in crate::store) fn release_claim(&self, key: &Digest) -> Answer {
        let mut call = self.call(&scripts::RELEASE_ONCE);
        call.arg(hex(key));
        self.submit(call, Kind::Count, None, 0)
    }

    /// A write's key as the scripts take it; empty if it has none.
    pub(super) fn pack_once(&self, once: Option<&Once>) -> Vec<u8> {
        once.map(|once| self.pack(once, self.settings.idempotency_window)).unwrap_or_default()
    }

    fn pack(&self, once: &Once, kept: Duration) -> Vec<u8> {
        let most = match once.sender {
            Some(_) => self.settings.max_keys_per_sender,
            None => self.settings.max_keys,
        };
        let mut packed = Vec::with_capacity(60 + once.answer.len());
        packed.put_slice(hex(&once.key).as_bytes());
        packed.put_slice(&once.content);
        packed.put_i64(millis(kept).max(1));
        packed.put_u32(u32::try_from(most).unwrap_or(u32::MAX));
        packed.put_slice(once.answer.as_bytes());
        packed
    }
}

/// Whose it is, as the scripts take it; a backend has no name.
pub(super) fn name_of(sender: Option<&SenderId>) -> String {
    sender.map(ToString::to_string).unwrap_or_default()
}

/// A key as it stands in names of keys in Redis.
fn hex(key: &Digest) -> String {
    format!("{:032x}", u128::from_be_bytes(*key))
}
