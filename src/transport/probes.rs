//! Probes: questions to a peer whose answers prove what it has received.
//!
//! Data that the kernel has taken may still be lost with the connection. Only the peer's answer to a *probe*,
//! a question sent behind the data, proves that the peer has it. In Engine.IO 4 the probe is an Engine.IO
//! ping, which the client itself answers in order, and no proxy for it. The library sends such pings, too,
//! and the answers look alike, so answers are matched to pings in order. In Engine.IO 3 the client sends the
//! pings; there the probe is a WebSocket ping.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::pong::Pong;

/// An Engine.IO ping as a server's frame.
const ENGINE_PING: [u8; 3] = [0x81, 1, b'2'];

/// The header of a WebSocket ping, as a server's frame, with a number of eight bytes.
const WEBSOCKET_PING: [u8; 2] = [0x89, 8];

/// The kind of probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// An Engine.IO 4 ping.
    EngineIo,
    /// A WebSocket ping.
    WebSocket,
}

/// The unanswered probes and pings, oldest first.
#[derive(Debug, Default)]
pub(super) struct Probes {
    engine: VecDeque<Option<oneshot::Sender<()>>>,
    websocket: VecDeque<(u64, oneshot::Sender<()>)>,
    count: u64,
    /// Since when a ping of the library is unanswered.
    unanswered_since: Option<Instant>,
}

impl Probes {
    /// Begins a probe: its frame, and a receiver that completes with the answer, or fails if none can come.
    pub(super) fn ask(&mut self, how: Ask) -> (Bytes, oneshot::Receiver<()>) {
        let (told, answered) = oneshot::channel();
        let frame = match how {
            Ask::EngineIo => {
                self.engine.push_back(Some(told));
                Bytes::from_static(&ENGINE_PING)
            }
            Ask::WebSocket => {
                self.count += 1;
                self.websocket.push_back((self.count, told));
                [&WEBSOCKET_PING[..], &self.count.to_be_bytes()].concat().into()
            }
        };
        (frame, answered)
    }

    /// The library has sent this many Engine.IO pings.
    pub(super) fn library_pinged(&mut self, count: usize) {
        if count > 0 {
            self.unanswered_since.get_or_insert_with(Instant::now);
        }
        self.engine.extend(std::iter::repeat_with(|| None).take(count));
    }

    /// Takes a pong of the peer. True if it answers a probe, false if it answers the library.
    pub(super) fn answered(&mut self, pong: Pong) -> bool {
        match pong {
            // A pong without a ping means nothing.
            Pong::EngineIo => {
                let told = self.engine.pop_front().flatten();
                if told.is_none() {
                    let is_any = self.engine.iter().any(Option::is_none);
                    self.unanswered_since = is_any.then(Instant::now);
                }
                told.is_some_and(|told| {
                    let _awaited = told.send(());
                    true
                })
            }
            // A peer may answer only the newest of several pings.
            Pong::WebSocket(number) => {
                let upto = self.websocket.partition_point(|(asked, _)| *asked <= number);
                let is_known = number <= self.count;
                for (_, told) in self.websocket.drain(..if is_known { upto } else { 0 }) {
                    let _awaited = told.send(());
                }
                is_known
            }
        }
    }

    /// Whether a ping of the library has been unanswered for this long.
    pub(super) fn is_library_waiting(&self, long: Duration) -> bool {
        self.unanswered_since.is_some_and(|since| since.elapsed() >= long)
    }

    /// Fails all probes: nothing will be answered any more.
    pub(super) fn clear(&mut self) {
        self.engine.clear();
        self.websocket.clear();
        self.unanswered_since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_the_librarys_where_the_library_has_asked_first() {
        let mut probes = Probes::default();
        assert!(!probes.answered(Pong::EngineIo), "nobody has asked");
        probes.library_pinged(1);
        let (_, mut first) = probes.ask(Ask::EngineIo);
        probes.library_pinged(1);
        let (_, mut second) = probes.ask(Ask::EngineIo);
        assert!(!probes.answered(Pong::EngineIo));
        assert!(first.try_recv().is_err());
        assert!(probes.answered(Pong::EngineIo));
        first.try_recv().unwrap();
        assert!(!probes.answered(Pong::EngineIo));
        assert!(second.try_recv().is_err());
        assert!(probes.answered(Pong::EngineIo));
        second.try_recv().unwrap();
        assert!(!probes.answered(Pong::EngineIo));
    }

    #[test]
    fn a_websockets_pong_answers_what_was_asked_before_it_too() {
        let mut probes = Probes::default();
        let (_, mut first) = probes.ask(Ask::WebSocket);
        let (frame, mut second) = probes.ask(Ask::WebSocket);
        assert_eq!(frame[..], [0x89, 8, 0, 0, 0, 0, 0, 0, 0, 2]);
        let (_, mut third) = probes.ask(Ask::WebSocket);
        assert!(!probes.answered(Pong::WebSocket(4)), "a number of the peer's own");
        assert!(first.try_recv().is_err());
        assert!(probes.answered(Pong::WebSocket(2)));
        first.try_recv().unwrap();
        second.try_recv().unwrap();
        assert!(third.try_recv().is_err());
        probes.clear();
        assert!(third.try_recv().is_err());
    }
}
