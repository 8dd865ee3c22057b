//! Writes that happen once: within [`Settings::idempotency_window`](super::Settings::idempotency_window) the same key
//! with the same content gets the first one's answer.
//!
//! A room message is stored together with its key. Everything else [claims](Store::claim) its key first, is done, and
//! leaves its answer there. A claim ends with its lease, and in a store of a single node with the process.

use std::{sync::Arc, time::Duration};

use super::{
    Append, Backend, Entry, Position, Store, Webhook, Work,
    pending::{Outcome, Past, Pending},
};
use crate::{limits::SenderId, protocol::names::UserId};

/// Half of a SHA-256.
pub type Digest = [u8; 16];

/// What makes a write happen once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// The key.
    pub key: Digest,
    /// The content that it belongs to.
    pub content: Digest,
    /// The sender that is charged for it; `None`, a backend, is not charged.
    pub sender: Option<SenderId>,
    /// What is needed to answer again.
    pub answer: Arc<str>,
}

/// What became of a write with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done<T> {
    /// It happened now.
    Now(T),
    /// It happened before.
    Before(Before),
    /// Somebody else is at it: nothing happened now.
    UnderWay,
}

/// A write that happened before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    /// Its number: a room message's offset, a queued message's place.
    pub number: u64,
    /// What is needed to answer again.
    pub answer: Arc<str>,
}

impl Store {
    /// As [`append`](Self::append), for a message that is stored once. Its key is stored in the same transaction.
    pub fn append_once(&self, append: Append, once: Once) -> Pending<Done<Position>> {
        let answer = self.submit_append(append, Some(once));
        Pending { answer, read: |outcome| done(&outcome, position) }
    }

    /// As [`enqueue`](Self::enqueue), for a message whose key is [claimed](Self::claim): the answer is left there in the
    /// same transaction. A message that was queued before is not queued again.
    pub fn enqueue_once(
        &self,
        user: UserId,
        sender: Option<SenderId>,
        entry: Entry,
        webhook: Option<Webhook>,
        once: Once,
    ) -> Pending<Done<u64>> {
        let answer = self.submit_enqueue(user, sender, entry, webhook, Some(Box::new(once)));
        Pending { answer, read: |outcome| done(&outcome, |outcome| outcome.number) }
    }

    /// Remembers a key with its answer, for something that happens now and cannot fail.
    pub fn remember(&self, once: Once) -> Pending<Done<()>> {
        self.submit_claim(once, None)
    }

    /// Claims a key for something that is no write of the store. The claim ends when it is [settled](Self::settle_claim)
    /// or [released](Self::release_claim), or after `lease`. The answer is not looked at.
    pub fn claim(&self, once: Once, lease: Duration) -> Pending<Done<()>> {
        self.submit_claim(once, Some(lease))
    }

    fn submit_claim(&self, once: Once, lease: Option<Duration>) -> Pending<Done<()>> {
        let answer = match &self.backend {
            Backend::Embedded(store) => store.submit(Work::Claim { once: once.into(), lease }),
            Backend::Redis(store) => store.first().claim_key(&once, lease),
        };
        Pending { answer, read: |outcome| done(&outcome, |_| ()) }
    }

    /// Leaves the answer to what was claimed and has happened.
    pub fn settle_claim(&self, once: Once) -> Pending<u64> {
        Self::number(match &self.backend {
            Backend::Embedded(store) => store.submit(Work::SettleClaim(once.into())),
            Backend::Redis(store) => store.first().settle_claim(&once),
        })
    }

    /// Gives a claim back.
    pub fn release_claim(&self, key: Digest) -> Pending<u64> {
        Self::number(match &self.backend {
            Backend::Embedded(store) => store.submit(Work::ReleaseClaim { key }),
            Backend::Redis(store) => store.first().release_claim(&key),
        })
    }
}

pub(super) fn position(outcome: &Outcome) -> Position {
    Position { offset: outcome.number, epoch: outcome.epoch }
}

fn done<T>(outcome: &Outcome, now: fn(&Outcome) -> T) -> Done<T> {
    match &outcome.past {
        None => Done::Now(now(outcome)),
        Some(Past::Done(answer)) => {
            Done::Before(Before { number: outcome.number, answer: answer.clone() })
        }
        Some(Past::UnderWay) => Done::UnderWay,
    }
}
