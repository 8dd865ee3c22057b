//! What a peer was asked to answer, and whether it has.
//!
//! What the kernel has taken may still be lost with the connection: that a peer has something is
//! proved by its answer to a question that was sent behind it, a *probe*. A client of Engine.IO 4 is
//! sent a ping of Engine.IO's, which the client itself answers, in its turn, and no proxy for it. The
//! library sends such pings, too, and the answers look alike: what is answered first was sent first. In
//! Engine.IO 3 it is the client that pings; there the probe is a ping of the WebSocket's.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::pong::Pong;

/// An Engine.IO ping as a server's frame.
const ENGINE_PING: [u8; 3] = [0x81, 1, b'2'];

/// The header of a WebSocket's ping, as a server's frame, with a number of eight bytes.
const WEBSOCKET_PING: [u8; 2] = [0x89, 8];

/// How a client is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// By a ping of Engine.IO 4.
    EngineIo,
    /// By a ping of the WebSocket's.
    WebSocket,
}

/// The probes and pings that are not answered yet, the oldest first.
#[derive(Debug, Default)]
pub struct Probes {
    engine: VecDeque<Option<oneshot::Sender<()>>>,
    websocket: VecDeque<(u64, oneshot::Sender<()>)>,
    count: u64,
    /// Since when a ping of the library's is not answered.
    unanswered_since: Option<Instant>,
}

impl Probes {
    /// A probe: its frame, and what completes with its answer, or fails where none can come.
    pub fn ask(&mut self, how: Ask) -> (Bytes, oneshot::Receiver<()>) {
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

    /// The library has sent so many pings of Engine.IO's.
    pub fn library_pinged(&mut self, count: usize) {
        if count > 0 {
            self.unanswered_since.get_or_insert_with(Instant::now);
        }
        self.engine.extend(std::iter::repeat_with(|| None).take(count));
    }

    /// The peer has sent a pong; whether it answers a probe, and not the library.
    pub fn answered(&mut self, pong: Pong) -> bool {
        match pong {
            // A pong that nobody has asked for says nothing.
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
            // A peer may answer the newest of several pings alone.
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

    /// Whether a ping of the library's is not answered for this long.
    pub fn is_library_waiting(&self, long: Duration) -> bool {
        self.unanswered_since.is_some_and(|since| since.elapsed() >= long)
    }

    /// Nothing will be answered any more.
    pub fn clear(&mut self) {
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
