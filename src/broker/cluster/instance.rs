//! One of the instances of Redis: the rooms that are on it, and this node's session with it.
//!
//! The session with the first instance is this node's part in the cluster. Those with the others hear of their rooms,
//! and nothing else: where one is lost, only its rooms fall behind.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    Inner,
    counters::Counters,
    keys::Keys,
    lease::RENEWAL,
    message::NodeMessage,
    outbox::Outbox,
    session::{Away, Session},
    subscriptions::Subscriptions,
};
use crate::store::Primary;

/// How long it may take to hear one's own mark.
const MARK: Duration = Duration::from_secs(1);

pub(super) struct Instance {
    /// Its place in the list, from 0.
    pub place: usize,
    /// The names of what it has.
    pub keys: Keys,
    pub primary: Primary,
    pub link: watch::Sender<Option<Session>>,
    /// Why there is no session.
    pub failing: Mutex<String>,
    pub subscriptions: Arc<Subscriptions>,
    pub outbox: Outbox,
    /// The newest mark that was published, and that was heard.
    marked: AtomicU64,
    heard: watch::Sender<u64>,
}

impl Instance {
    /// Must be called inside the runtime.
    pub(super) fn new(
        place: usize,
        primary: Primary,
        keys: Keys,
        subscriptions: Arc<Subscriptions>,
        counters: &Arc<Counters>,
    ) -> Self {
        let (link, linked) = watch::channel(None);
        let (outbox, publishing) = Outbox::new(keys.publish(), counters.clone(), linked);
        tokio::spawn(publishing);
        Self {
            place,
            primary,
            keys,
            link,
            failing: Mutex::new("not connected yet".to_owned()),
            subscriptions,
            outbox,
            marked: AtomicU64::new(0),
            heard: watch::Sender::new(0),
        }
    }

    pub(super) fn session(&self) -> Result<Session, Away> {
        let session = self.link.borrow().clone();
        session.filter(Session::is_open).ok_or_else(Away::unconnected)
    }

    /// Why there is no session, if there is none.
    pub(super) fn health(&self) -> Result<(), String> {
        self.session().map(drop).map_err(|_| self.failing.lock().clone())
    }

    /// The channels that this node listens on besides those of rooms.
    pub(super) fn channels(&self, inner: &Inner) -> Vec<String> {
        if self.place == 0 {
            return vec![self.keys.to_all(), self.keys.to_node(&inner.node)];
        }
        vec![self.own_channel(inner)]
    }

    fn own_channel(&self, inner: &Inner) -> String {
        self.keys.to_self(&inner.node, self.place + 1)
    }

    /// Publishes a beat, as long as the session lasts: that it comes back proves that rooms' messages would arrive, too.
    pub(super) async fn beat(self: Arc<Self>, inner: Arc<Inner>) {
        let mut ticks = interval(RENEWAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.outbox.push(self.own_channel(&inner), inner.encode(&NodeMessage::Beat, None));
        }
    }

    /// Waits until this node has heard all that was published in this instance before; false if that takes too long.
    pub(super) async fn all_heard(&self, inner: &Inner) -> bool {
        let Ok(session) = self.session() else { return false };
        let number = self.marked.fetch_add(1, Relaxed) + 1;
        let mark = inner.encode(&NodeMessage::Mark { number }, None);
        let mut publish = redis::cmd(self.keys.publish());
        publish.arg(self.own_channel(inner)).arg(&mark[..]);
        let heard = async {
            session.query::<()>(&publish).await?;
            // Cannot fail: the sender is in `self`.
            let _ = self.heard.subscribe().wait_for(|heard| *heard >= number).await;
            Ok::<_, Away>(())
        };
        matches!(timeout(MARK, heard).await, Ok(Ok(())))
    }

    /// A mark of this node's has come.
    pub(super) fn hear(&self, number: u64) {
        self.heard.send_if_modified(|heard| {
            let is_newer = *heard < number;
            *heard = number.max(*heard);
            is_newer
        });
    }
}
