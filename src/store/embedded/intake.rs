//! The writer's queue, and when the writer begins a commit.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{
    pending::Reply,
    types::{Append, Entry, Revoked, RoomKey},
};
use crate::{
    limits::SenderId,
    protocol::names::UserId,
    store::{
        backlog::{self, Backlog, Limits},
        idempotency::{Digest, Once},
        webhook::{Announcement, FailedPlace, Fate, Settled, Webhook},
    },
};

/// The least time between the starts of two commits, so that under load one commit serves many. A write
/// after a pause does not wait.
const SPACING: Duration = Duration::from_millis(1);

/// What the writer is asked to do.
pub(in crate::store) enum Work {
    Append {
        message: Append,
        once: Option<Box<Once>>,
    },
    Receipt {
        room: RoomKey,
        message_id: String,
        user: UserId,
        timestamp_ms: i64,
    },
    Enqueue {
        user: UserId,
        sender: Option<SenderId>,
        entry: Entry,
        webhook: Option<Webhook>,
        once: Option<Box<Once>>,
    },
    Confirm {
        user: UserId,
        up_to: u64,
    },
    Announce(Announcement),
    /// A webhook of a message that is kept nowhere else.
    Tell(Webhook),
    Settle(Settled),
    /// What becomes of webhooks that were given up.
    Decide {
        failed: Vec<(FailedPlace, String)>,
        fate: Fate,
    },
    Revoke(Revoked),
    Reinstate {
        id: String,
    },
    /// Claims an idempotency key; without a lease, remembers it.
    Claim {
        once: Box<Once>,
        lease: Option<Duration>,
    },
    SettleClaim(Box<Once>),
    ReleaseClaim {
        key: Digest,
    },
    Sweep,
}

impl Work {
    /// Whether it makes the store larger.
    pub(super) fn wants_room(&self) -> bool {
        match self {
            Self::Append { .. }
            | Self::Receipt { .. }
            | Self::Enqueue { .. }
            | Self::Announce(_)
            | Self::Claim { .. }
            | Self::Tell(_) => true,
            // A revocation is small, and must not depend on what others have stored.
            Self::Confirm { .. }
            | Self::Settle(_)
            | Self::Decide { .. }
            | Self::Revoke(_)
            | Self::Reinstate { .. }
            | Self::SettleClaim(_)
            | Self::ReleaseClaim { .. }
            | Self::Sweep => false,
        }
    }

    fn bytes(&self) -> usize {
        let size = |webhook: Option<&Webhook>| webhook.map_or(0, |webhook| webhook.json.len());
        let once = |once: &Once| size_of::<Once>() + once.answer.len();
        let own = match self {
            // A webhook's beginning; its end is the entry's.
            Self::Append { message: Append { entry, webhook, .. }, once: key }
            | Self::Enqueue { entry, webhook, once: key, .. } => {
                entry.size() + size(webhook.as_ref()) + key.as_deref().map_or(0, once)
            }
            Self::Claim { once: key, .. } | Self::SettleClaim(key) => once(key),
            Self::Receipt { message_id, .. } => message_id.len(),
            Self::Announce(announcement) => size(announcement.webhook.as_ref()),
            Self::Tell(webhook) => size(Some(webhook)),
            Self::Revoke(revoked) => revoked.json.len(),
            Self::Decide { failed, .. } => failed.iter().map(|(_, id)| 40 + id.len()).sum(),
            Self::Confirm { .. }
            | Self::Settle(_)
            | Self::Reinstate { .. }
            | Self::ReleaseClaim { .. }
            | Self::Sweep => 0,
        };
        own + size_of::<Self>()
    }
}

/// Work and where its answer goes.
pub(super) struct Command {
    pub work: Work,
    pub reply: Reply,
}

impl backlog::Command for Command {
    fn bytes(&self) -> usize {
        self.work.bytes()
    }

    fn sender(&self) -> Option<SenderId> {
        match &self.work {
            Work::Append { message, .. } => message.sender.clone(),
            Work::Enqueue { sender, .. } => sender.clone(),
            Work::Receipt { user, .. } => Some(SenderId::User(user.clone())),
            Work::Announce(announcement) => announcement.sender.clone(),
            Work::Claim { once, .. } => once.sender.clone(),
            Work::Confirm { .. }
            | Work::Tell(_)
            | Work::Settle(_)
            | Work::Decide { .. }
            | Work::Revoke(_)
            | Work::Reinstate { .. }
            | Work::SettleClaim(_)
            | Work::ReleaseClaim { .. }
            | Work::Sweep => None,
        }
    }

    fn into_reply(self) -> Reply {
        self.reply
    }
}

pub(super) struct Intake {
    state: Mutex<State>,
    arrived: Condvar,
}

struct State {
    backlog: Backlog<Command>,
    /// What the writer waits for; a push that does not fulfil it need not wake the writer.
    awaits: Awaits,
}

#[derive(PartialEq)]
enum Awaits {
    Nothing,
    Any,
    FullBatch,
}

/// What the writer found.
pub(super) enum Taken {
    /// Work, in order.
    Batch(Vec<Command>),
    /// No work came until the given time.
    Idle,
    /// No work is left, and none will come.
    Closed,
}

impl Intake {
    pub(super) fn new(limits: Limits) -> Self {
        let state = State { backlog: Backlog::new(limits, "the disk"), awaits: Awaits::Nothing };
        Self { state: Mutex::new(state), arrived: Condvar::new() }
    }

    /// Takes the work in, or answers why not; returns whether it was taken.
    pub(super) fn push(&self, command: Command) -> bool {
        let mut state = self.state.lock();
        if let Err(refused) = state.backlog.push(command) {
            drop(state);
            refused.tell();
            return false;
        }
        let wake = match state.awaits {
            Awaits::Nothing => false,
            Awaits::Any => true,
            Awaits::FullBatch => state.backlog.fills_a_batch(),
        };
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
        true
    }

    /// Waits for work until `idle_at`. While there is less than a batch, waits for more until [`SPACING`]
    /// after `last_commit`. Takes one batch.
    pub(super) fn take(&self, last_commit: Instant, idle_at: Instant) -> Taken {
        let mut state = self.state.lock();
        state.awaits = Awaits::Any;
        while state.backlog.is_empty() && !state.backlog.is_closed() {
            if self.arrived.wait_until(&mut state, idle_at).timed_out() {
                break;
            }
        }
        state.awaits = Awaits::FullBatch;
        let start_at = last_commit + SPACING;
        while !state.backlog.is_empty() && !state.backlog.fills_a_batch() {
            if self.arrived.wait_until(&mut state, start_at).timed_out() {
                break;
            }
        }
        state.awaits = Awaits::Nothing;
        if state.backlog.is_empty() {
            return if state.backlog.is_closed() { Taken::Closed } else { Taken::Idle };
        }
        Taken::Batch(state.backlog.batch())
    }

    /// Refuses work from now on; what was taken in is still done.
    pub(super) fn close(&self) {
        self.state.lock().backlog.close();
        self.arrived.notify_one();
    }

    /// Closes, and drops the work that was not done.
    pub(super) fn abandon(&self) {
        let abandoned = self.state.lock().backlog.abandon();
        drop(abandoned);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().backlog.is_closed()
    }

    /// Writes that wait, and their bytes.
    pub(super) fn depth(&self) -> (usize, usize) {
        self.state.lock().backlog.depth()
    }
}
