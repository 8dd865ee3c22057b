//! Whose turn it is to take what emitters send.
//!
//! A key in Redis names the node, for a few seconds at a time. It is free as soon as its node's connection ends. A
//! node whose turn is over by its own clock does nothing more, even if it never hears of that: it may have been
//! suspended for long.
//!
//! A node that stops hands over: it says so on a channel that comes by the same connection as what emitters
//! publish, and takes what came before its own word. The others keep what comes after it until one of them has the
//! turn.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

/// How long the turn lasts without being renewed.
pub(super) const LEASE: Duration = Duration::from_secs(5);

/// How long it lasts for the node that has it, from when it asked.
const OWN: Duration = Duration::from_secs(4);

/// How often it is claimed or renewed.
pub(super) const RENEWAL: Duration = Duration::from_secs(1);

/// What this node does with what is published.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Nothing: another node takes it.
    StandBy,
    /// It keeps it, as this other node leaves.
    TakesOver(String),
    /// It takes it.
    Has,
    /// Nothing: it leaves.
    Leaves,
}

#[derive(Debug)]
pub(super) struct Turn {
    phase: Mutex<Phase>,
    /// Until when the turn is this node's; `None` before the first claim is answered.
    until: watch::Sender<Option<Instant>>,
    left: Notify,
    free: Notify,
}

/// What a changed turn means for what was kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It stays, if there is any.
    Stays,
    /// It is another node's.
    Goes,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            phase: Mutex::new(Phase::StandBy),
            until: watch::Sender::new(None),
            left: Notify::new(),
            free: Notify::new(),
        }
    }
}

impl Turn {
    /// Whether what is published now is to be kept.
    pub(super) fn takes(&self) -> bool {
        matches!(*self.phase.lock(), Phase::Has | Phase::TakesOver(_))
    }

    /// Whether it is this node's turn.
    pub(super) fn is_own(&self) -> bool {
        self.until.borrow().is_some_and(|until| until > Instant::now())
    }

    /// Waits until it is this node's turn.
    pub(super) async fn own(&self) {
        let mut until = self.until.subscribe();
        let is_own = |until: &Option<Instant>| until.is_some_and(|until| until > Instant::now());
        // Cannot fail: the sender is in `self`.
        let _ = until.wait_for(is_own).await;
    }

    /// Waits until a claim has been answered.
    pub(super) async fn is_known(&self) {
        let _ = self.until.subscribe().wait_for(Option::is_some).await;
    }

    /// A claim that was made at `asked` has been answered: `holder` has the turn.
    pub(super) fn answered(&self, asked: Instant, node: &str, holder: &str) -> Kept {
        let mut phase = self.phase.lock();
        if holder == node {
            if *phase != Phase::Leaves {
                *phase = Phase::Has;
            }
            self.until.send_replace(Some(asked + OWN));
            return Kept::Stays;
        }
        self.until.send_replace(Some(asked));
        match &*phase {
            Phase::TakesOver(leaving) if leaving == holder => Kept::Stays,
            Phase::Leaves => Kept::Goes,
            _ => {
                *phase = Phase::StandBy;
                Kept::Goes
            }
        }
    }

    /// The connection to Redis is lost, and the turn with it.
    pub(super) fn lose(&self) {
        let mut phase = self.phase.lock();
        if *phase != Phase::Leaves {
            *phase = Phase::StandBy;
        }
        // Unknown stays unknown.
        self.until.send_if_modified(|until| {
            until.is_some_and(|_| {
                *until = Some(Instant::now());
                true
            })
        });
    }

    /// A node has said that it takes nothing that comes after its word.
    pub(super) fn leaving(&self, node: &str, who: String) {
        let mut phase = self.phase.lock();
        if who == node {
            *phase = Phase::Leaves;
            self.left.notify_waiters();
        } else if *phase == Phase::StandBy {
            *phase = Phase::TakesOver(who);
        }
    }

    /// Waits until this node's own word has come back.
    pub(super) async fn left(&self) {
        let left = self.left.notified();
        if *self.phase.lock() != Phase::Leaves {
            left.await;
        }
    }

    /// A node has given the turn back.
    pub(super) fn freed(&self) {
        self.free.notify_one();
    }

    /// Waits until a node gives the turn back.
    pub(super) async fn free(&self) {
        self.free.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_turn_ends_by_this_nodes_own_clock() {
        let turn = Turn::default();
        assert!(!turn.is_own() && !turn.takes());
        let asked = Instant::now();
        turn.answered(asked, "a", "a");
        assert!(turn.is_own() && turn.takes());
        tokio::time::advance(OWN).await;
        assert!(!turn.is_own());
        assert_eq!(turn.answered(Instant::now(), "a", "a"), Kept::Stays);
        assert!(turn.is_own());
        assert_eq!(turn.answered(Instant::now(), "a", "b"), Kept::Goes);
        assert!(!turn.is_own() && !turn.takes());
    }

    #[tokio::test]
    async fn who_takes_over_keeps_what_comes_until_the_turn_is_its_own_or_anothers() {
        for (holder, wanted) in [("b", true), ("c", false)] {
            let turn = Turn::default();
            turn.answered(Instant::now(), "b", "a");
            turn.leaving("b", "a".to_owned());
            assert!(turn.takes());
            assert_eq!(turn.answered(Instant::now(), "b", "a"), Kept::Stays);
            assert!(turn.takes() && !turn.is_own());
            let kept = turn.answered(Instant::now(), "b", holder);
            assert_eq!((kept == Kept::Stays, turn.takes()), (wanted, wanted), "{holder}");
        }
    }

    #[tokio::test]
    async fn who_leaves_takes_nothing_more_but_finishes() {
        let turn = Turn::default();
        turn.answered(Instant::now(), "a", "a");
        turn.leaving("a", "a".to_owned());
        turn.left().await;
        assert!(turn.is_own() && !turn.takes());
        turn.answered(Instant::now(), "a", "a");
        assert!(turn.is_own() && !turn.takes());
    }
}
