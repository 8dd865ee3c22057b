//! What is counted while a scenario runs.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use roomcast_bench::{
    frame,
    text::{self, Stamp},
};
use tokio::sync::Notify;

use crate::{client::Sender, process::Process};

/// The counts of one run, shared by all its tasks.
#[derive(Default)]
pub struct Tally {
    /// What is paid for: deliveries, requests, round trips or connections.
    pub units: Cell<u64>,
    /// When the last unit was counted.
    pub last: Cell<Option<Instant>>,
    latencies: RefCell<Vec<u32>>,
    recording: Cell<bool>,
    faults: RefCell<BTreeMap<String, u64>>,
}

impl Tally {
    /// Counts one unit that took `latency`.
    pub fn unit(&self, now: Instant, latency: Duration) {
        self.units.set(self.units.get() + 1);
        self.last.set(Some(now));
        if self.recording.get() {
            let micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
            self.latencies.borrow_mut().push(micros);
        }
    }

    /// Counts something that must not happen.
    pub fn fault(&self, what: impl Into<String>) {
        *self.faults.borrow_mut().entry(what.into()).or_default() += 1;
    }

    /// All faults, each with how often it happened.
    pub fn faults(&self) -> Vec<String> {
        self.faults.borrow().iter().map(|(what, times)| format!("{what} ({times})")).collect()
    }

    /// The latency that `percent` of the units kept, in microseconds; 0 without any.
    pub fn percentile(&self, percent: usize) -> u32 {
        let mut latencies = self.latencies.borrow_mut();
        latencies.sort_unstable();
        let at = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
        latencies.get(at).copied().unwrap_or(0)
    }

    /// From now on latencies are kept; what `process` has used so far.
    pub fn start(&self, process: Process) -> io::Result<Start> {
        self.recording.set(true);
        Ok(Start {
            cpu: process.cpu()?,
            own: Process::own().cpu()?,
            units: self.units.get(),
            at: Instant::now(),
        })
    }

    /// The end of what [`start`](Self::start) began.
    pub fn stop(&self, process: Process, start: &Start) -> io::Result<Span> {
        self.recording.set(false);
        Ok(Span {
            cpu: process.cpu()? - start.cpu,
            own: Process::own().cpu()? - start.own,
            units: self.units.get() - start.units,
            time: start.at.elapsed(),
        })
    }
}

/// Where a measurement began.
pub struct Start {
    cpu: u64,
    own: u64,
    units: u64,
    /// When.
    pub at: Instant,
}

/// What a measurement found.
pub struct Span {
    /// The server's CPU time in microseconds.
    pub cpu: u64,
    /// The generator's.
    pub own: u64,
    /// What it did for that.
    pub units: u64,
    /// How long it took.
    pub time: Duration,
}

/// Somebody who publishes messages to one room, with all that is known of them.
pub struct Publisher {
    id: usize,
    room: String,
    sender: Option<Sender>,
    padding: usize,
    reply: bool,
    sent: RefCell<Vec<Instant>>,
    /// How many deliveries of the newest message are still to come.
    missing: Cell<usize>,
    /// The sequence number after the highest that any member has got.
    reached: Cell<usize>,
    arrived: Notify,
}

impl Publisher {
    /// One that sends by `sender`, or, without one, only makes the messages.
    pub fn new(id: usize, room: &str, sender: Option<Sender>) -> Self {
        Self {
            id,
            room: room.to_owned(),
            sender,
            padding: 0,
            reply: false,
            sent: RefCell::default(),
            missing: Cell::new(0),
            reached: Cell::new(0),
            arrived: Notify::new(),
        }
    }

    /// With messages that are longer by so many bytes.
    pub fn padded(self, padding: usize) -> Self {
        Self { padding, ..self }
    }

    /// Which wants its own messages back.
    pub fn replied(self) -> Self {
        Self { reply: true, ..self }
    }

    /// How many messages were made.
    pub fn sent(&self) -> usize {
        self.sent.borrow().len()
    }

    /// The next message; its time begins.
    pub fn next(&self) -> String {
        let mut sent = self.sent.borrow_mut();
        let stamp = Stamp { publisher: self.id, sequence: sent.len() };
        sent.push(Instant::now());
        text::message(&self.room, stamp, self.padding, self.reply)
    }

    /// Sends the next message.
    pub async fn publish(&self) -> io::Result<()> {
        self.publish_together(1).await
    }

    /// Sends the next messages with one write.
    async fn publish_together(&self, count: usize) -> io::Result<()> {
        let Some(sender) = &self.sender else { return Err(io::ErrorKind::NotConnected.into()) };
        let mut frames = Vec::new();
        for _ in 0..count {
            let packet = format!("42[\"message\",{}]", self.next());
            debug_assert!(packet.as_bytes().starts_with(text::MESSAGE));
            frames.extend(frame::of_client(frame::TEXT, packet.as_bytes()));
        }
        sender.write(&frames).await
    }

    /// Sends so many messages together, again and again, each time when those before have reached all
    /// `members`.
    pub async fn publish_in_turn(&self, members: usize, together: usize) -> io::Error {
        loop {
            self.missing.set(members * together);
            if let Err(error) = self.publish_together(together).await {
                return error;
            }
            while self.missing.get() > 0 {
                self.arrived().await;
            }
        }
    }

    /// How many messages are on their way that have reached nobody.
    pub fn ahead(&self) -> usize {
        self.sent() - self.reached.get()
    }

    /// Waits until a message reaches somebody for the first time, or the newest one everybody.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    fn delivered(&self, sequence: usize) {
        if sequence >= self.reached.get() {
            self.reached.set(sequence + 1);
            self.arrived.notify_one();
        }
        if self.missing.get() > 0 {
            self.missing.set(self.missing.get() - 1);
            if self.missing.get() == 0 {
                self.arrived.notify_one();
            }
        }
    }
}

/// A member of a room that checks what it gets: from every publisher each message once, in order. What is lost is
/// found by counting.
pub struct Member {
    tally: Rc<Tally>,
    publishers: Rc<[Rc<Publisher>]>,
    /// How far the messages of each have come.
    progress: Vec<Progress>,
}

#[derive(Clone, Copy, Default)]
struct Progress {
    /// The sequence number after the highest that came.
    next: usize,
    /// How many below that have not come: late, or lost.
    missing: usize,
}

impl Member {
    /// A member that expects the messages of these publishers, whose ids follow upon that of the
    /// first.
    pub fn new(tally: Rc<Tally>, publishers: Rc<[Rc<Publisher>]>) -> Self {
        let progress = vec![Progress::default(); publishers.len()];
        Self { tally, publishers, progress }
    }

    /// Takes a packet that was read at `now`.
    pub fn take(&mut self, now: Instant, packet: &[u8]) {
        if !packet.starts_with(text::DELIVERY) {
            if packet.starts_with(b"42[\"error\"") || packet.starts_with(b"44") {
                self.tally.fault(String::from_utf8_lossy(packet));
            }
            return;
        }
        let first = self.publishers.first().map_or(0, |publisher| publisher.id);
        let found = Stamp::find(packet).and_then(|stamp| {
            let index = stamp.publisher.checked_sub(first)?;
            let publisher = self.publishers.get(index)?;
            let sent = *publisher.sent.borrow().get(stamp.sequence)?;
            Some((stamp, index, publisher, sent))
        });
        let Some((stamp, index, publisher, sent)) = found else {
            self.tally.fault("a message that nobody sent to this room");
            return;
        };
        let progress = &mut self.progress[index];
        if stamp.sequence >= progress.next {
            progress.missing += stamp.sequence - progress.next;
            progress.next = stamp.sequence + 1;
        } else if progress.missing > 0 {
            progress.missing -= 1;
            self.tally.fault("a message out of order");
        } else {
            self.tally.fault("a message twice");
            return;
        }
        self.tally.unit(now, now - sent);
        publisher.delivered(stamp.sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a member makes of the messages of one publisher, who sent four, coming in this order:
    /// how many it counts, and its faults.
    fn taken(order: &[usize]) -> (u64, Vec<String>) {
        let tally = Rc::new(Tally::default());
        let publisher = Rc::new(Publisher::new(7, "room", None));
        let messages: Vec<String> = (0..4).map(|_| publisher.next()).collect();
        let mut member = Member::new(tally.clone(), Rc::new([publisher]));
        member.take(Instant::now(), b"42[\"user-joined\",{}]");
        for sequence in order {
            let packet = format!("42[\"message-reply\",{}]", messages[*sequence]);
            member.take(Instant::now(), packet.as_bytes());
        }
        (tally.units.get(), tally.faults())
    }

    #[test]
    fn each_message_once_and_in_order_is_no_fault() {
        assert_eq!(taken(&[0, 1, 2, 3]), (4, vec![]));
        assert_eq!(taken(&[1, 3]), (2, vec![]), "losses are found by counting");
    }

    #[test]
    fn late_and_repeated_messages_are_told_apart() {
        assert_eq!(taken(&[0, 2, 1, 3]), (4, vec!["a message out of order (1)".into()]));
        assert_eq!(taken(&[0, 1, 1, 0, 2]), (3, vec!["a message twice (2)".into()]));
    }

    #[test]
    fn foreign_messages_and_errors_are_faults() {
        let tally = Rc::new(Tally::default());
        let stranger = Publisher::new(0, "room", None);
        let mut member = Member::new(tally.clone(), Rc::new([]));
        let packet = format!("42[\"message-reply\",{}]", stranger.next());
        member.take(Instant::now(), packet.as_bytes());
        member.take(Instant::now(), b"42[\"error\",{}]");
        assert_eq!(tally.faults().len(), 2);
        assert_eq!(tally.units.get(), 0);
    }

    #[test]
    fn percentiles_are_of_what_was_recorded() {
        let tally = Tally::default();
        assert_eq!(tally.percentile(50), 0);
        tally.unit(Instant::now(), Duration::from_secs(1));
        tally.start(Process::own()).unwrap();
        for micros in 0..100 {
            tally.unit(Instant::now(), Duration::from_micros(micros));
        }
        assert_eq!((tally.percentile(50), tally.percentile(99)), (50, 99));
        assert_eq!(tally.units.get(), 101);
    }
}
