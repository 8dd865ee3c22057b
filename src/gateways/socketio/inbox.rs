//! The ordered inbox of one client.
//!
//! The library calls handlers in the order of the frames, but runs their futures concurrently, so that one
//! client's events would overtake one another. Here they queue, and are taken out one at a time: a client's
//! events are processed in the order in which they were sent, its disconnection last. Most events are done as
//! they come; a task lives only while one of them has to wait.
//!
//! Consecutive messages to rooms are handed to the log without waiting for the one before to be stored: the
//! log keeps their order, and they are acknowledged in it. So a fast client gets many messages into one
//! commit. Everything else waits until they are all done.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use socketioxide::socket::DisconnectReason;

use super::{
    connection::Connection,
    guard::{catch_panic, catch_panic_async},
};
use crate::{
    commands::{
        connection_recovery::Claim,
        membership_command::{Done, MembershipCommand},
    },
    gateways::handlers::First,
    memory::Charge,
    sync::{Mutex, spawn},
    transport::Pause,
};

/// How many events of one client may wait. Their bytes, and those of events under way, are bounded by its
/// account. Events beyond the limit are refused. Clients that wait for their acks never reach it, nor do
/// websockets, whose reading pauses long before.
const CAPACITY: usize = 4096;

/// What an event takes in memory besides its text and its attachments, in bytes.
const OVERHEAD: usize = 256;

/// With this many events waiting, or their bytes, reading from the client pauses.
const CROWDED: usize = 256;

/// With this few waiting, reading resumes.
const CALM: usize = 64;

/// How many messages of one client may be on their way to the log at the same time.
const UNDER_WAY: usize = 128;

/// One thing that came from a client.
pub(super) enum Item {
    /// An event: the text of its packet's array, and what its placeholders refer to.
    Event {
        /// `["name", argument, …]`
        text: socketioxide_core::Str,
        /// The binary attachments, in the order of their numbers.
        attachments: Arc<[Bytes]>,
        /// The number to acknowledge it with, where the client asks for that.
        ack: Option<i64>,
        /// When it came.
        came: Instant,
        /// Its bytes.
        charge: Charge,
    },
    /// A change of the client's memberships that somebody else asks for.
    Membership(MembershipCommand, Done),
    /// What the application's backend wants to be done first.
    Admitted(First),
    /// The client has come back to a session: it is sent what it missed.
    Back(Claim),
    /// The connection has ended.
    Gone(DisconnectReason),
}

impl Item {
    /// The bytes to be read.
    fn size(&self) -> usize {
        match self {
            Self::Event { text, .. } => text.len(),
            _ => 0,
        }
    }
}

/// The queue, and whether it is being drained.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    /// The connection is established: earlier items wait until it is.
    open: bool,
    /// The connection has ended: later items must not bring it back.
    ended: bool,
    running: bool,
    /// Pauses reading from the client while too many events wait.
    pause: Option<Pause>,
}

/// The bytes that an event of this text and these attachments is charged.
pub(super) fn size_of_event(text: &str, attachments: &[Bytes]) -> usize {
    OVERHEAD + text.len() + attachments.iter().map(Bytes::len).sum::<usize>()
}

impl Inbox {
    /// Queues an item; gives it back if too many are waiting. What comes after the end is dropped.
    pub(super) fn push(&self, connection: &Arc<Connection>, item: Item) -> Result<(), Item> {
        let mut state = self.state.lock();
        if state.ended {
            return Ok(());
        }
        let is_event = matches!(item, Item::Event { .. });
        if is_event {
            if state.items.len() >= CAPACITY {
                return Err(item);
            }
            connection.app().metrics.waiting(1);
        }
        state.ended = matches!(item, Item::Gone(_));
        state.items.push_back(item);
        let is_crowded = state.items.len() >= CROWDED || connection.account.is_crowded();
        if is_crowded && state.pause.is_none() {
            state.pause = connection.client().and_then(|client| client.sender.pause());
        }
        let starts = state.starts();
        drop(state);
        if starts {
            // A stop waits for this work, task or not.
            let _until_done = connection.app().tasks.token();
            let mut work = Box::pin(drain(connection.clone()));
            // Most events are done at once: only work that has to wait becomes a task. Items that are no
            // events may come from within the library, which must not be called back: they always become one.
            if !is_event || work.as_mut().now_or_never().is_none() {
                spawn(&connection.app().tasks, work);
            }
        }
        Ok(())
    }

    /// Starts the processing: with the session that was claimed, `first`, then early items.
    pub(super) fn open(
        &self,
        connection: &Arc<Connection>,
        first: Option<First>,
        claim: Option<Claim>,
    ) {
        let mut state = self.state.lock();
        state.open = true;
        if let Some(first) = first {
            state.items.push_front(Item::Admitted(first));
        }
        if let Some(claim) = claim {
            state.items.push_front(Item::Back(claim));
        }
        if state.starts() {
            spawn(&connection.app().tasks, drain(connection.clone()));
        }
    }

    /// The next item. Without one, and with nothing under way, draining ends.
    fn next(&self, connection: &Connection, is_idle: bool) -> Option<Item> {
        let mut state = self.state.lock();
        let item = state.items.pop_front();
        let is_done = item.is_none() && is_idle;
        if is_done || (state.items.len() <= CALM && connection.account.is_calm()) {
            state.pause = None;
        }
        if matches!(item, Some(Item::Event { .. })) {
            connection.app().metrics.waiting(-1);
        }
        if is_done {
            state.running = false;
            // Frees the memory of a burst.
            state.items.shrink_to(16);
        }
        item
    }
}

impl State {
    /// Claims the drain loop; returns whether the caller has to run it.
    fn starts(&mut self) -> bool {
        let starts = self.open && !self.running && !self.items.is_empty();
        self.running |= starts;
        starts
    }
}

async fn drain(connection: Arc<Connection>) {
    // Without a log there are no commits to share, and publishers are slowed down message by message.
    let most = if connection.app().broker.log().is_some() { UNDER_WAY } else { 0 };
    let mut under_way = VecDeque::new();
    loop {
        let room = match connection.inbox().next(&connection, under_way.is_empty()) {
            Some(item) => {
                let _turn = connection.app().limits.large_events.turn(item.size()).await;
                let Some(begun) = catch_panic(|| connection.begin(item)) else {
                    connection.app().metrics.panicked();
                    continue;
                };
                under_way.push_back(begun.work);
                if begun.is_pipelined { most } else { 0 }
            }
            None if under_way.is_empty() => return,
            None => under_way.len() - 1,
        };
        while under_way.len() > room
            && let Some(first) = under_way.pop_front()
        {
            // A panic ends this event, not the client.
            if catch_panic_async(first).await.is_none() {
                connection.app().metrics.panicked();
            }
        }
    }
}

/// If the connection was never established, its early events no longer count as waiting.
impl Drop for Connection {
    fn drop(&mut self) {
        let state = self.inbox().state.lock();
        let events = state.items.iter().filter(|item| matches!(item, Item::Event { .. })).count();
        self.app().metrics.waiting(-i64::try_from(events).unwrap_or(0));
    }
}
