//! Surveys: a question to all or some of the other nodes, and the answers that came in time.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::{sync::mpsc, time::timeout};

use crate::protocol::refusal::{Code, Refusal};

/// How long nodes may take to answer.
pub(super) const DEADLINE: Duration = Duration::from_secs(1);

/// What other nodes answered.
#[derive(Debug)]
pub struct Answers<T> {
    /// The answers, in no order.
    pub answers: Vec<T>,
    /// The nodes that did not answer in time.
    pub unreachable: Vec<String>,
    /// Whether nobody could be asked because Redis is away; then `unreachable` holds the nodes last known.
    pub away: bool,
}

impl<T> Answers<T> {
    /// No answers, because there are no other nodes.
    pub fn none() -> Self {
        Self { answers: Vec::new(), unreachable: Vec::new(), away: false }
    }

    /// Whether a node's answer is missing.
    pub fn is_partial(&self) -> bool {
        self.away || !self.unreachable.is_empty()
    }

    /// The refusal when nothing was found: `not_found`, or `unavailable` if a missing node may have it.
    pub fn or_unreachable(&self, not_found: Refusal) -> Refusal {
        if self.is_partial() {
            let message = "Not every node could be asked; try again later";
            return Refusal::new(Code::Unavailable, message);
        }
        not_found
    }
}

/// An answer and the node that gave it.
type From = (Arc<str>, Box<RawValue>);

/// The questions of this node that are under way.
#[derive(Debug, Default)]
pub(super) struct Asking {
    last: AtomicU64,
    waiting: Mutex<HashMap<u64, mpsc::UnboundedSender<From>>>,
}

/// A question under way; it ends when this is dropped.
pub(super) struct Question<'a> {
    pub id: u64,
    asking: &'a Asking,
    answers: mpsc::UnboundedReceiver<From>,
}

impl Asking {
    /// Begins a question.
    pub(super) fn begin(&self) -> Question<'_> {
        let id = self.last.fetch_add(1, Relaxed);
        let (sender, answers) = mpsc::unbounded_channel();
        self.waiting.lock().insert(id, sender);
        Question { id, asking: self, answers }
    }

    /// A node has answered.
    pub(super) fn answered(&self, id: u64, from: Arc<str>, answer: Box<RawValue>) {
        if let Some(waiting) = self.waiting.lock().get(&id) {
            // The asker may have given up.
            let _told = waiting.send((from, answer));
        }
    }
}

impl Question<'_> {
    /// Waits for the answers of these nodes, for as long as `within`.
    pub(super) async fn wait<T: serde::de::DeserializeOwned>(
        mut self,
        nodes: Vec<String>,
        within: Duration,
    ) -> Answers<T> {
        let mut silent = nodes.into_iter().collect::<HashSet<_>>();
        let mut answers = Vec::with_capacity(silent.len());
        let listening = async {
            while !silent.is_empty() {
                let Some((from, answer)) = self.answers.recv().await else { return };
                // An unreadable answer, from a node of another version, does not count.
                if let Ok(answer) = serde_json::from_str(answer.get())
                    && silent.remove(&*from)
                {
                    answers.push(answer);
                }
            }
        };
        let _all_or_late = timeout(within, listening).await;
        let mut unreachable = silent.into_iter().collect::<Vec<_>>();
        unreachable.sort_unstable();
        Answers { answers, unreachable, away: false }
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.asking.waiting.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::payload::raw;

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_named() {
        let asking = Asking::default();
        let question = asking.begin();
        let id = question.id;
        asking.answered(id, "b".into(), raw("2"));
        asking.answered(id, "stranger".into(), raw("7"));
        asking.answered(id, "b".into(), raw("3"));
        asking.answered(id, "c".into(), raw("\"another version\""));
        asking.answered(id + 1, "a".into(), raw("1"));
        let nodes = ["a", "b", "c"].map(str::to_owned).to_vec();
        let answers = question.wait::<u64>(nodes, DEADLINE).await;
        assert_eq!(answers.answers, [2]);
        assert_eq!(answers.unreachable, ["a", "c"]);
        assert!(asking.waiting.lock().is_empty());
    }
}
