//! What a client fetches: its polls, and the answers to them.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    super::{Connection, State},
    Session,
};
use crate::{
    sync::timeout,
    transport::{
        frame::{Message, PING, messages},
        pong::Pong,
    },
};

/// The largest piece of an answer that the HTTP server gets at once, in bytes. The pieces show how much of
/// the answer the peer has taken.
pub(super) const PIECE: usize = 64 * 1024;

/// How long a session lives on when its peer's connection has broken during a poll, unless it polls again: a
/// proxy may repeat the request, and a client does not.
pub(super) const ABANDONED: Duration = Duration::from_secs(1);

/// The polls of a connection; part of its state.
#[derive(Debug, Default)]
pub(in crate::transport::connection) struct Polls {
    /// The waiting poll.
    ask: Option<Ask>,
    /// The number of polls that have begun.
    begun: u64,
    /// How much of an answer the peer has not taken yet, in bytes.
    pub answering: usize,
    /// An upgrade is under way.
    pub(super) upgrading: bool,
    /// The number of a WebSocket ping that went out with the answer: the next poll proves that the client has
    /// it.
    pinged: Option<u64>,
}

#[derive(Debug)]
struct Ask {
    /// The most that the poll takes, in bytes.
    most: usize,
    answer: oneshot::Sender<Answer>,
}

#[derive(Debug)]
enum Answer {
    Frames(Vec<Bytes>),
    Nothing,
    Close,
}

/// The outcome of a poll.
#[derive(Debug)]
pub enum Polled {
    /// Messages to send.
    Messages(Vec<Message>, Answering),
    /// An empty answer: the client is about to upgrade, or has.
    Nothing,
    /// The session ends.
    Close,
    /// There is no such session (any more).
    Over,
    /// Another poll is waiting, which the protocol forbids: the session ends.
    Overlaps,
}

impl Connection {
    /// The peer's connection broke during its last poll, after so many had begun. Ends the session soon, unless
    /// another poll begins.
    fn is_abandoned(self: &Arc<Self>, begun: u64) {
        let connection = self.clone();
        self.wire.spawn(async move {
            let other = connection.wait_until(|connection| !connection.is_polled());
            if timeout(ABANDONED, other).await.is_ok() {
                return;
            }
            let is_last = connection.state.lock().polls.begun == begun;
            if is_last {
                connection.end_polled();
            }
        });
    }

    /// The peer has taken `size` bytes of an answer.
    fn taken(&self, size: usize) {
        let mut state = self.state.lock();
        state.polls.answering = state.polls.answering.saturating_sub(size);
        self.progressed(&mut state);
        state.answer_poll();
    }
}

impl State {
    /// Answers the waiting poll, if there is one and something to send.
    pub(in crate::transport::connection) fn answer_poll(&mut self) {
        if self.polls.answering > 0 {
            return;
        }
        let Some(ask) = self.polls.ask.take() else { return };
        let answer = if !self.queue.is_empty() {
            let frames = self.queue.take(ask.most);
            self.polls.answering = frames.iter().map(Bytes::len).sum();
            Answer::Frames(frames)
        } else if self.closing {
            Answer::Close
        } else {
            self.polls.ask = Some(ask);
            return;
        };
        if let Err(Answer::Frames(frames)) = ask.answer.send(answer) {
            self.take_back(frames);
        }
    }

    /// Answers the waiting poll, if there is one, with nothing.
    pub(super) fn release_poll(&mut self) {
        if let Some(ask) = self.polls.ask.take() {
            // A poll that was given up needs no answer.
            let _awaited = ask.answer.send(Answer::Nothing);
        }
    }

    /// Records the WebSocket pings in an answer, which a polling client does not answer itself.
    fn note_pings(&mut self, messages: &[Message]) {
        let pings = messages.iter().filter(|message| message.opcode == PING);
        let numbers =
            pings.filter_map(|ping| Some(u64::from_be_bytes(ping.payload[..].try_into().ok()?)));
        self.polls.pinged = numbers.max().or(self.polls.pinged);
    }

    /// A new poll proves that the client has the last answer, and so answers the ping in it.
    fn answer_ping(&mut self) {
        if self.polls.answering == 0
            && let Some(number) = self.polls.pinged.take()
        {
            self.probes.answered(Pong::WebSocket(number));
        }
    }

    /// Keeps the frames of an abandoned poll for the next one.
    fn take_back(&mut self, frames: Vec<Bytes>) {
        self.polls.answering = 0;
        self.queue.put_back(frames);
    }
}

impl Session {
    /// Waits for messages and takes up to `most` bytes of them, or a single larger one.
    pub async fn poll(&self, most: usize) -> Polled {
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.0.state.lock();
            if self.0.is_over() {
                return Polled::Over;
            }
            if !self.0.is_polled() {
                return Polled::Nothing;
            }
            if state.polls.ask.is_some() {
                self.0.part_polled(&mut state);
                return Polled::Overlaps;
            }
            state.answer_ping();
            state.polls.begun += 1;
            state.polls.ask = Some(Ask { most, answer });
            state.answer_poll();
        }
        let mut waiting = WaitingPoll { connection: self.0.clone(), answered };
        match Pin::new(&mut waiting.answered).await {
            Ok(Answer::Frames(frames)) => {
                let messages = messages(frames);
                self.0.state.lock().note_pings(&messages);
                Polled::Messages(messages, Answering(Some(self.0.clone())))
            }
            Ok(Answer::Nothing) => Polled::Nothing,
            Ok(Answer::Close) => Polled::Close,
            Err(_) => Polled::Over,
        }
    }
}

/// A waiting poll. If it is dropped, its frames are kept for the next one.
struct WaitingPoll {
    connection: Arc<Connection>,
    answered: oneshot::Receiver<Answer>,
}

impl Drop for WaitingPoll {
    fn drop(&mut self) {
        let mut state = self.connection.state.lock();
        match self.answered.try_recv() {
            Ok(Answer::Frames(frames)) => {
                state.take_back(frames);
                state.answer_poll();
            }
            Err(oneshot::error::TryRecvError::Empty) => state.polls.ask = None,
            // It was answered; a poll that waits now is another one.
            Ok(Answer::Nothing | Answer::Close) | Err(oneshot::error::TryRecvError::Closed) => {
                return;
            }
        }
        if state.polls.ask.is_none() {
            self.connection.is_abandoned(state.polls.begun);
        }
    }
}

/// An answer on its way to the peer.
#[derive(Debug)]
pub struct Answering(Option<Arc<Connection>>);

impl Answering {
    /// Cuts the answer's body into pieces. A piece counts as taken by the peer when it is dropped.
    pub fn pieces(mut self, body: Vec<Bytes>) -> Vec<Bytes> {
        let Some(connection) = self.0.take() else { return body };
        let mut pieces = Vec::with_capacity(body.len());
        for mut part in body {
            while part.len() > PIECE {
                pieces.push(part.split_to(PIECE));
            }
            pieces.push(part);
        }
        connection.state.lock().polls.answering = pieces.iter().map(Bytes::len).sum();
        let piece = |bytes| Bytes::from_owner(Piece { connection: connection.clone(), bytes });
        pieces.into_iter().map(piece).collect()
    }
}

impl Drop for Answering {
    /// Nobody waits for the answer.
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.taken(usize::MAX);
        }
    }
}

struct Piece {
    connection: Arc<Connection>,
    bytes: Bytes,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.connection.taken(self.bytes.len());
    }
}
