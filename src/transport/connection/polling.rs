//! A connection whose client polls: it fetches packets with one GET after another and sends its own by POST.
//!
//! The queue is that of every other connection, with the same frames and bounds. A *poll* takes whole frames,
//! one answer at a time: the next answer waits until the peer's kernel has taken the one before. Posted
//! packets reach the library as WebSocket frames. An upgrade gives the connection its TCP stream and changes
//! nothing else: what no poll has taken is written to the stream.

use std::{
    mem,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use socketioxide::socket::Sid;
use tokio::{net::tcp::OwnedReadHalf, sync::oneshot};

use super::{Connection, State, Writer};
use crate::{
    memory::Account,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        timeout,
    },
    transport::{
        Raw, Wire,
        frame::{Message, PING, messages},
        pong::Pong,
        socket::{Socket, Try},
    },
};

/// The largest piece of an answer that the HTTP server gets at once, in bytes. The pieces show how much of
/// the answer the peer has taken.
const PIECE: usize = 64 * 1024;

/// How many websockets of one session may be open that it has not upgraded to. A client opens one; they are not
/// counted among its address's connections.
const MAX_PROBES: usize = 4;

/// A client's frame with an invalid packet, over which the library ends the session.
const INVALID: [u8; 7] = [0x81, 0x81, 0, 0, 0, 0, b'x'];

/// How long a session lives on when its peer's connection has broken during a poll, unless it polls again: a
/// proxy may repeat the request, and a client does not.
const ABANDONED: Duration = Duration::from_secs(1);

/// The polling state of a connection, beside its queue.
#[derive(Debug, Default)]
pub(super) struct Polling {
    posts: Mutex<Posts>,
    name: OnceLock<Name>,
    /// The number of [`Probing`] websockets.
    probes: AtomicUsize,
}

/// By what requests name the session.
#[derive(Debug)]
struct Name {
    id: Sid,
    /// The only address from which they may come, if the id is no secret.
    address: Option<IpAddr>,
}

/// What has come by POST.
#[derive(Debug, Default)]
struct Posts {
    post: Posting,
    /// The peer's byte stream after the upgrade, and what was read from it already.
    upgraded: Option<(OwnedReadHalf, Bytes)>,
    /// The library reads that byte stream.
    is_upgraded: bool,
}

#[derive(Debug, Default)]
enum Posting {
    /// No POST.
    #[default]
    Nothing,
    /// The body is on its way.
    Coming,
    /// The whole body waits for the library.
    Waits(Bytes),
    /// The library has the body and has not asked for more.
    Taken,
}

/// The polls of a connection; part of its state.
#[derive(Debug, Default)]
pub(super) struct Polls {
    /// The waiting poll.
    ask: Option<Ask>,
    /// The number of polls that have begun.
    begun: u64,
    /// How much of an answer the peer has not taken yet, in bytes.
    pub answering: usize,
    /// An upgrade is under way.
    upgrading: bool,
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

/// What comes next from the client.
#[derive(Debug)]
pub(crate) enum Posted {
    /// Frames.
    Frames(Bytes),
    /// The peer's own byte stream, and what was read from it already.
    Upgraded(OwnedReadHalf, Bytes),
    /// Nothing: the connection is over.
    Over,
}

impl Connection {
    /// The connection of a client that polls.
    pub(in crate::transport) fn polled(
        peer: SocketAddr,
        wire: Wire,
        account: Arc<Account>,
    ) -> Self {
        Self { polling: Some(Box::default()), ..Self::without_stream(peer, wire, account) }
    }

    /// Whether the client polls.
    pub(in crate::transport) fn is_polled(&self) -> bool {
        self.tcp.get().is_none()
    }

    /// Ends a polling connection and answers the waiting poll.
    pub(super) fn part_polled(&self, state: &mut State) {
        state.closing = true;
        state.answer_poll();
        self.end(state);
    }

    /// Ends the connection if its client polls, and answers a waiting poll.
    pub(in crate::transport) fn end_polled(&self) {
        let mut state = self.state.lock();
        if self.is_polled() && !self.is_over() {
            self.part_polled(&mut state);
        }
    }

    /// Takes the next posted frames, or the stream after an upgrade.
    pub(in crate::transport) fn poll_posted(&self, context: &mut Context<'_>) -> Poll<Posted> {
        let Some(polling) = &self.polling else { return Poll::Ready(Posted::Over) };
        self.reader.register(context.waker());
        let mut posts = polling.posts.lock();
        match mem::take(&mut posts.post) {
            Posting::Waits(frames) => {
                posts.post = Posting::Taken;
                return Poll::Ready(Posted::Frames(frames));
            }
            // The library asks for more when it has processed what it has.
            Posting::Taken => self.left.notify_waiters(),
            post => posts.post = post,
        }
        if let Some((reader, read)) = posts.upgraded.take() {
            posts.is_upgraded = true;
            return Poll::Ready(Posted::Upgraded(reader, read));
        }
        drop(posts);
        if self.is_over() { Poll::Ready(Posted::Over) } else { Poll::Pending }
    }
}

impl Connection {
    /// Hands what was posted to the library.
    fn hand_in(&self, frames: Bytes) {
        let Some(polling) = &self.polling else { return };
        let mut posts = polling.posts.lock();
        // After an upgrade nobody takes it.
        posts.post = if posts.is_upgraded { Posting::Nothing } else { Posting::Waits(frames) };
        drop(posts);
        self.reader.wake();
    }

    /// Whether something was posted that the library has not processed yet.
    fn has_post(&self) -> bool {
        let posted = |polling: &Polling| !matches!(polling.posts.lock().post, Posting::Nothing);
        self.polling.as_deref().is_some_and(posted)
    }

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

    /// Unregisters the session: requests no longer find it.
    pub(super) fn forget_session(&self) {
        if let Some(name) = self.polling.as_ref().and_then(|polling| polling.name.get()) {
            self.wire.sessions().remove(name.id);
        }
    }
}

impl State {
    /// Answers the waiting poll, if there is one and something to send.
    pub(super) fn answer_poll(&mut self) {
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
    fn release_poll(&mut self) {
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

/// The session of a client that polls.
#[derive(Debug, Clone)]
pub struct Session(Arc<Connection>);

impl Session {
    pub(in crate::transport) fn of(connection: &Arc<Connection>) -> Self {
        Self(connection.clone())
    }

    /// The session of this connection for a request from `address`, unless it is over.
    pub(in crate::transport) fn find(
        connection: Arc<Connection>,
        address: Option<IpAddr>,
    ) -> Option<Self> {
        let only = connection.polling.as_ref()?.name.get()?.address;
        let is_its_own = only.is_none_or(|only| address == Some(only));
        (is_its_own && !connection.is_over()).then_some(Self(connection))
    }

    /// Registers the session by its id, until its end. With an `address`, for requests from there only.
    pub fn name(&self, id: Sid, address: Option<IpAddr>) {
        let Some(polling) = &self.0.polling else { return };
        polling.name.get_or_init(|| Name { id, address });
        let state = self.0.state.lock();
        if !self.0.is_over() {
            self.0.wire.sessions().insert(id, Arc::downgrade(&self.0));
        }
        drop(state);
    }

    /// Counts bytes held for the session until the guard is dropped.
    pub fn hold(&self) -> Held {
        Held { connection: self.0.clone(), bytes: 0 }
    }

    /// Whether the client polls: it has not upgraded.
    pub fn is_polled(&self) -> bool {
        self.0.is_polled()
    }

    /// Whether the session has ended.
    pub fn is_over(&self) -> bool {
        self.0.is_over()
    }

    /// Whether the session was cut off: then nobody waits for the rest of an answer.
    pub fn is_cut_off(&self) -> bool {
        self.0.account.cut_off().is_some()
    }

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

    /// Begins a POST; `None` if one is under way or the session is over.
    pub fn post(&self) -> Option<Post> {
        let mut posts = self.0.polling.as_ref()?.posts.lock();
        if !matches!(posts.post, Posting::Nothing) || self.0.is_over() {
            return None;
        }
        posts.post = Posting::Coming;
        Some(Post(Some(self.0.clone())))
    }

    /// Ends the session at once.
    pub fn break_off(&self) {
        self.0.break_off();
    }

    /// Waits until the session has ended.
    pub async fn ended(&self) {
        self.0.wait_over().await;
    }

    /// A websocket for an upgrade was opened; `None` if that is one too many.
    pub fn probe(&self) -> Option<Probing> {
        let polling = self.0.polling.as_ref().filter(|_| self.0.is_polled())?;
        let probing = Probing(self.0.clone());
        (polling.probes.fetch_add(1, Ordering::AcqRel) < MAX_PROBES).then_some(probing)
    }

    /// Begins an upgrade; `None` if one is under way, or the session has ended or been upgraded.
    pub fn upgrade(&self) -> Option<Upgrading> {
        let mut state = self.0.state.lock();
        let may_begin = self.0.is_polled() && !self.0.is_over();
        if !may_begin || mem::replace(&mut state.polls.upgrading, true) {
            return None;
        }
        Some(Upgrading(self.0.clone()))
    }
}

/// A websocket that a session may upgrade to, counted until dropped.
#[derive(Debug)]
pub struct Probing(Arc<Connection>);

impl Drop for Probing {
    fn drop(&mut self) {
        if let Some(polling) = &self.0.polling {
            polling.probes.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Bytes held for a session, counted until dropped.
#[derive(Debug)]
pub struct Held {
    connection: Arc<Connection>,
    bytes: usize,
}

impl Held {
    /// Counts more bytes.
    pub fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.connection.kept.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.connection.kept.fetch_sub(self.bytes, Ordering::Relaxed);
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

/// A POST of a session. Dropping it unfinished ends the session, because part of what the client sent is
/// lost.
#[derive(Debug)]
pub struct Post(Option<Arc<Connection>>);

impl Post {
    /// Hands frames to the library and waits until it has processed them, or the session is over.
    pub async fn give(mut self, frames: Bytes) {
        let Some(connection) = self.0.take() else { return };
        connection.hand_in(frames);
        connection.wait_until(|connection| !connection.has_post()).await;
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.hand_in(Bytes::from_static(&INVALID));
        }
    }
}

/// An upgrade under way: while this lives, no other one can begin. The session goes on by polling until it is
/// complete.
#[derive(Debug)]
pub struct Upgrading(Arc<Connection>);

impl Upgrading {
    /// Answers a waiting poll: a client whose probe was answered upgrades once it has no poll outstanding.
    pub fn release_poll(&self) {
        self.0.state.lock().release_poll();
    }

    /// Sends and receives by this stream from now on.
    pub fn complete(self, raw: Raw) {
        let Raw { tcp, read, slot } = raw;
        let (reader, socket) = Socket::split(tcp, slot);
        self.switch(socket, Some((reader, read)));
    }

    pub(in crate::transport) fn switch(
        self,
        socket: Socket,
        reader: Option<(OwnedReadHalf, Bytes)>,
    ) {
        let connection = &self.0;
        let Some(polling) = &connection.polling else { return };
        let mut state = connection.state.lock();
        if connection.is_over() || connection.tcp.set(socket).is_err() {
            return;
        }
        state.release_poll();
        polling.posts.lock().upgraded = reader;
        connection.reader.wake();
        // A drainer that waits for polls waits for the stream from now on.
        connection.left.notify_waiters();
        if state.writer == Writer::Nobody {
            connection.changed(state);
        } else {
            connection.flush(&mut state, Try::Ready);
        }
    }
}

impl Drop for Upgrading {
    fn drop(&mut self) {
        self.0.state.lock().polls.upgrading = false;
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use futures_util::FutureExt;

    use super::*;
    use crate::{
        memory::{self, Memory},
        transport::{
            Came, Goes, Limits, Packets, Stream,
            frame::{Frames, Kind},
        },
    };

    #[derive(Debug)]
    struct All;

    impl Packets for All {
        fn came(&self, _: &[u8]) -> Came {
            Came::Pass
        }

        fn goes(&self, _: &[u8]) -> Goes {
            Goes::AsIs
        }

        fn poll_taken(&self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Ready(())
        }
    }

    /// A session, and the library's stream of it.
    fn session() -> (Stream, Session) {
        let hour = Duration::from_hours(1);
        let limits = Limits {
            send_buffer: 1_000_000,
            send_timeout: hour,
            heartbeat: hour,
            max_message: usize::MAX,
        };
        let memory = Memory::new(memory::Limits { outgoing: 0, incoming: 0, process: 0 });
        let wire = Wire::new(limits, memory.clone());
        wire.session(([127, 0, 0, 1], 1).into(), &memory.open_account(), Arc::new(All))
    }

    fn send(session: &Session, text: &str) {
        let frames = Frames::encode(Kind::Event, "/", &[text], &[], false);
        session.0.push(&frames, None);
        session.0.flush_dirty();
    }

    fn texts(polled: Polled) -> (Vec<String>, Answering) {
        let Polled::Messages(messages, answering) = polled else { panic!("{polled:?}") };
        let text = |message: &Message| String::from_utf8(message.payload.to_vec()).unwrap();
        (messages.iter().map(text).collect(), answering)
    }

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        future.now_or_never()
    }

    #[tokio::test]
    async fn what_was_meant_for_a_poll_that_is_given_up_waits_for_the_next() {
        let (_stream, session) = session();
        let mut given_up = Box::pin(session.poll(1000));
        assert!(given_up.as_mut().now_or_never().is_none(), "there is nothing yet");
        send(&session, "[1]");
        send(&session, "[2]");
        drop(given_up);
        assert_eq!(texts(now(session.poll(1000)).unwrap()).0, ["42[1]", "42[2]"]);
        // A dropped poll that was never answered makes way for the next.
        assert!(now(session.poll(1000)).is_none());
        send(&session, "[3]");
        assert_eq!(texts(now(session.poll(1000)).unwrap()).0, ["42[3]"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_whose_peer_is_gone_during_a_poll_ends_soon() {
        let (_stream, session) = session();
        let mut broken = Box::pin(session.poll(1000));
        assert!(broken.as_mut().now_or_never().is_none());
        drop(broken);
        let mut again = Box::pin(session.poll(1000));
        assert!(again.as_mut().now_or_never().is_none());
        tokio::time::sleep(ABANDONED * 2).await;
        assert!(!session.is_over(), "it has polled again");
        send(&session, "[1]");
        assert_eq!(texts(again.now_or_never().unwrap()).0, ["42[1]"]);
        tokio::time::sleep(ABANDONED * 2).await;
        assert!(!session.is_over(), "it has its answer");
        let mut broken = Box::pin(session.poll(1000));
        assert!(broken.as_mut().now_or_never().is_none());
        drop(broken);
        tokio::time::timeout(ABANDONED * 2, session.ended()).await.unwrap();
    }

    #[tokio::test]
    async fn nothing_is_handed_out_beside_an_answer_that_is_not_taken() {
        let (_stream, session) = session();
        for text in ["[1]", "[2]"] {
            send(&session, text);
        }
        let (first, answering) = texts(now(session.poll(1)).unwrap());
        assert_eq!(first, ["42[1]"]);
        let body = vec![Bytes::from(vec![b'x'; PIECE + 1])];
        let mut pieces = answering.pieces(body);
        assert_eq!(pieces.len(), 2);
        let unsent = || session.0.unsent();
        let mut next = Box::pin(session.poll(1000));
        assert!(next.as_mut().now_or_never().is_none());
        pieces.truncate(1);
        assert!(next.as_mut().now_or_never().is_none());
        assert_eq!(unsent(), PIECE + 7, "a piece, and what waits");
        drop(pieces);
        let (second, _answering) = texts(next.now_or_never().unwrap());
        assert_eq!(second, ["42[2]"]);
        assert_eq!(unsent(), 7);
    }

    #[tokio::test]
    async fn two_polls_at_once_end_the_session() {
        let (_stream, session) = session();
        let mut first = Box::pin(session.poll(1000));
        assert!(first.as_mut().now_or_never().is_none());
        assert!(matches!(now(session.poll(1000)), Some(Polled::Overlaps)));
        assert!(matches!(first.now_or_never(), Some(Polled::Close)));
        assert!(matches!(now(session.poll(1000)), Some(Polled::Over)));
    }

    #[tokio::test]
    async fn while_an_upgrade_is_under_way_the_session_is_polled() {
        let (_stream, session) = session();
        let mut waits = Box::pin(session.poll(1000));
        assert!(waits.as_mut().now_or_never().is_none());
        let upgrading = session.upgrade().unwrap();
        assert!(session.upgrade().is_none(), "there is one already");
        assert!(waits.as_mut().now_or_never().is_none());
        send(&session, "[1]");
        assert_eq!(texts(waits.now_or_never().unwrap()).0, ["42[1]"]);
        let mut waits = Box::pin(session.poll(1000));
        assert!(waits.as_mut().now_or_never().is_none());
        upgrading.release_poll();
        assert!(matches!(waits.now_or_never(), Some(Polled::Nothing)));
        drop(upgrading);
        assert!(session.upgrade().is_some(), "the next may try");
    }

    #[tokio::test]
    async fn a_session_has_a_few_websockets_that_it_may_upgrade_to() {
        let (_stream, session) = session();
        let mut open = (0..MAX_PROBES).map(|_| session.probe().unwrap()).collect::<Vec<_>>();
        assert!(session.probe().is_none());
        open.pop();
        assert!(session.probe().is_some());
    }

    #[tokio::test]
    async fn the_next_poll_answers_a_ping_of_the_websockets() {
        let (_stream, session) = session();
        let mut confirmed = session.0.probe(crate::transport::Ask::WebSocket);
        session.0.flush_dirty();
        let Some(Polled::Messages(_, answering)) = now(session.poll(1000)) else { panic!() };
        assert!(confirmed.try_recv().is_err());
        drop(answering);
        assert!(now(session.poll(1000)).is_none());
        confirmed.try_recv().unwrap();
    }
}
