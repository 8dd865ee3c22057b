//! The queue of writes for Redis.

use parking_lot::Mutex;
use redis::Cmd;
use tokio::{sync::Notify, time::Instant};

use crate::{
    limits::SenderId,
    store::{
        backlog::{self, Backlog, Limits},
        pending::Reply,
    },
};

/// How the answer to a write is to be read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Append,
    Enqueue,
    Claim,
    Count,
}

/// A write and where its answer goes.
pub(super) struct Command {
    pub call: Cmd,
    pub kind: Kind,
    /// Who it is from; `None` for backends and for the server itself.
    pub sender: Option<SenderId>,
    /// Its size in memory, in bytes.
    pub bytes: usize,
    pub arrived: Instant,
    pub reply: Reply,
}

impl backlog::Command for Command {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn sender(&self) -> Option<SenderId> {
        self.sender.clone()
    }

    fn into_reply(self) -> Reply {
        self.reply
    }
}

pub(super) struct Intake {
    backlog: Mutex<Backlog<Command>>,
    arrived: Notify,
}

impl Intake {
    pub(super) fn new(limits: Limits) -> Self {
        Self { backlog: Mutex::new(Backlog::new(limits, "Redis")), arrived: Notify::new() }
    }

    /// Takes the write in, or answers why not.
    pub(super) fn push(&self, command: Command) {
        let pushed = self.backlog.lock().push(command);
        match pushed {
            Ok(()) => self.arrived.notify_one(),
            Err(refused) => refused.tell(),
        }
    }

    /// Waits for work and takes one batch; `None` once closed and empty. Only one task may call this.
    pub(super) async fn take(&self) -> Option<Vec<Command>> {
        loop {
            {
                let mut backlog = self.backlog.lock();
                if !backlog.is_empty() {
                    return Some(backlog.batch());
                }
                if backlog.is_closed() {
                    return None;
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Refuses writes from now on; those taken in are still done.
    pub(super) fn close(&self) {
        self.backlog.lock().close();
        self.arrived.notify_one();
    }

    /// Closes, and drops the writes that were not done.
    pub(super) fn abandon(&self) {
        let abandoned = self.backlog.lock().abandon();
        drop(abandoned);
    }

    /// Writes that wait, and their bytes.
    pub(super) fn depth(&self) -> (usize, usize) {
        self.backlog.lock().depth()
    }
}
