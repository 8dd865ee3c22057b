//! Signals on their way to other nodes: queued here, published as one pipeline after another.
//!
//! Nothing waits for them: signals that cannot be queued, or are queued while Redis is away, are lost and
//! counted.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::{counters::Counters, session::Session};

/// How many signals may wait, and how many bytes of them.
const MAX_WAITING: (usize, usize) = (20_000, 64_000_000);

/// How many signals go in one pipeline.
const BATCH: usize = 512;

/// The queue of signals.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: mpsc::Sender<Post>,
    bytes: Arc<AtomicUsize>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
enum Post {
    Signal {
        channel: String,
        message: Bytes,
    },
    /// Notified when everything before it has been published or is lost.
    Flushed(oneshot::Sender<()>),
}

impl Outbox {
    /// An outbox, and the task that empties it by this command and ends with it.
    pub(super) fn new(
        command: &'static str,
        counters: Arc<Counters>,
        link: watch::Receiver<Option<Session>>,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, posts) = mpsc::channel(MAX_WAITING.0);
        let bytes = Arc::<AtomicUsize>::default();
        let outbox = Self { queue, bytes: bytes.clone(), counters: counters.clone() };
        (outbox, publish(command, posts, bytes, counters, link))
    }

    /// Publishes a message soon.
    pub(super) fn push(&self, channel: String, message: Bytes) {
        let size = message.len();
        let fits = self.bytes.fetch_add(size, Relaxed) + size <= MAX_WAITING.1;
        if !fits || self.queue.try_send(Post::Signal { channel, message }).is_err() {
            self.bytes.fetch_sub(size, Relaxed);
            self.counters.unpublished.inc();
        }
    }

    /// Waits until what was pushed before has been published, or is lost.
    pub(super) async fn flush(&self) {
        let (flushed, wait) = oneshot::channel();
        if self.queue.send(Post::Flushed(flushed)).await.is_ok() {
            let _done = wait.await;
        }
    }
}

async fn publish(
    command: &'static str,
    mut posts: mpsc::Receiver<Post>,
    bytes: Arc<AtomicUsize>,
    counters: Arc<Counters>,
    link: watch::Receiver<Option<Session>>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while posts.recv_many(&mut batch, BATCH).await > 0 {
        let mut pipeline = redis::pipe();
        let (mut count, mut size) = (0, 0);
        let mut waiters = Vec::new();
        for post in batch.drain(..) {
            match post {
                Post::Signal { channel, message } => {
                    count += 1;
                    size += message.len();
                    pipeline.cmd(command).arg(channel).arg(&message[..]).ignore();
                }
                Post::Flushed(waiter) => waiters.push(waiter),
            }
        }
        let session = link.borrow().clone();
        let published = match session {
            _ if count == 0 => true,
            Some(session) => session.pipeline::<()>(&pipeline).await.is_ok(),
            None => false,
        };
        bytes.fetch_sub(size, Relaxed);
        let counter = if published { &counters.published } else { &counters.unpublished };
        counter.inc_by(count);
        for waiter in waiters {
            let _waiting = waiter.send(());
        }
    }
}
