//! The answer to a write, which comes later.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use super::types::StoreError;
use crate::protocol::{epoch::Epoch, position::Position};

/// A write's outcome: the offset, the place or the count; only an append has an epoch.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub number: u64,
    pub epoch: Epoch,
    /// What is known of a write that happens once, if it did not happen now.
    pub past: Option<Past>,
}

/// Why a write that happens once did not happen now.
#[derive(Debug, Clone)]
pub(super) enum Past {
    /// It happened before, with this answer.
    Done(Arc<str>),
    /// Somebody else is at it.
    UnderWay,
}

impl From<Past> for Outcome {
    fn from(past: Past) -> Self {
        Self { past: Some(past), ..0.into() }
    }
}

impl From<Position> for Outcome {
    fn from(position: Position) -> Self {
        Self { epoch: position.epoch, ..position.offset.into() }
    }
}

impl From<u64> for Outcome {
    fn from(number: u64) -> Self {
        Self { number, epoch: Epoch::NONE, past: None }
    }
}

/// Where a write's outcome is sent.
pub(super) type Reply = oneshot::Sender<Result<Outcome, StoreError>>;

/// Where a write's outcome is awaited.
pub(super) type Answer = oneshot::Receiver<Result<Outcome, StoreError>>;

/// The answer to a write that was taken in.
#[must_use = "the write is under way, but only the answer tells whether it was stored"]
pub struct Pending<T> {
    pub(super) answer: Answer,
    pub(super) read: fn(Outcome) -> T,
}

impl<T> Future for Pending<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let read = self.read;
        Pin::new(&mut self.answer).poll(context).map(|answer| match answer {
            Ok(outcome) => outcome.map(read),
            Err(_) => Err(StoreError::Unavailable("the store's writer has ended".into())),
        })
    }
}
