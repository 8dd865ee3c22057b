//! Subscribing to rooms' channels, and reading from the log what did not come by them.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::time::{sleep, timeout};

use super::{SubscribedRoom, Subscriptions};
use crate::{
    broker::cluster::{
        keys::Keys,
        listening::Sink,
        session::{Away, Session, TIMEOUT},
        tail::Turn,
    },
    store::{Query, RoomKey},
};

/// How many channels are subscribed to by one command.
const BATCH: usize = 500;

/// How many rooms are read at the same time after a loss.
const READS: usize = 32;

/// How much of a room's log is read at a time, in messages and bytes.
const PAGE: (usize, usize) = (500, 1_000_000);

/// How long to wait before a failed read is tried again.
const RETRY: Duration = Duration::from_millis(200);

impl Subscriptions {
    /// Subscribes to rooms as they come and go, for one session; returns when the session is lost.
    pub(crate) async fn follow(self: Arc<Self>, session: Session, keys: Keys, mut sink: Sink) {
        let mut changes = self.changes.lock().await;
        // Earlier changes are part of the full list below.
        while changes.try_recv().is_ok() {}
        let all = self.rooms.lock().values().cloned().collect::<Vec<_>>();
        for subscribed in &all {
            subscribed.tail.lock().fall_behind(session.number);
        }
        let mut subscribed = HashSet::new();
        let mut batch =
            all.into_iter().map(|subscribed| subscribed.key.clone()).collect::<Vec<_>>();
        loop {
            if self.update(&session, &keys, &mut sink, &mut subscribed, batch).await.is_err() {
                session.lost.cancel();
                return;
            }
            batch = Vec::new();
            if changes.recv_many(&mut batch, BATCH).await == 0 {
                return;
            }
        }
    }

    /// Subscribes to the channels of those of these rooms that exist, and unsubscribes from the others.
    async fn update(
        self: &Arc<Self>,
        session: &Session,
        keys: &Keys,
        sink: &mut Sink,
        subscribed: &mut HashSet<RoomKey>,
        rooms: Vec<RoomKey>,
    ) -> Result<(), Away> {
        let mut come = Vec::new();
        let mut gone = Vec::new();
        for key in rooms {
            match self.get(&key) {
                // A room that went and came again in between is a new one, whose log cursor has yet to start.
                Some(room) => {
                    room.tail.lock().session = session.number;
                    subscribed.insert(key);
                    come.push(room);
                }
                None => {
                    if subscribed.remove(&key) {
                        gone.push(keys.to_room(&key));
                    }
                }
            }
        }
        let failed = |_| Away::unconnected();
        for channels in gone.chunks(BATCH) {
            let done = timeout(TIMEOUT, sink.unsubscribe(channels)).await;
            done.map_err(|_| Away::unconnected())?.map_err(failed)?;
        }
        for subscribed in come.chunks(BATCH) {
            let channels =
                subscribed.iter().map(|room| keys.to_room(&room.key)).collect::<Vec<_>>();
            let done = timeout(TIMEOUT, sink.subscribe(&channels)).await;
            done.map_err(|_| Away::unconnected())?.map_err(failed)?;
            let begun = subscribed.iter().cloned().map(|subscribed| {
                let (all, session) = (self.clone(), session.clone());
                async move { all.begin(&session, &subscribed).await }
            });
            let begun = begun.collect::<Vec<_>>();
            tokio::spawn(stream::iter(begun).buffer_unordered(READS).collect::<()>());
        }
        Ok(())
    }

    /// The channel is subscribed to: starts the log cursor at the log's head, or reads what was missed.
    async fn begin(&self, session: &Session, subscribed: &SubscribedRoom) {
        if !subscribed.tail.lock().is_starting() {
            return self.catch_up(session, subscribed).await;
        }
        let extent = match &self.log {
            None => None,
            Some(log) => loop {
                match log.extent(&subscribed.key).await {
                    Ok(extent) => break Some(extent),
                    Err(_) if session.is_open() => sleep(RETRY).await,
                    Err(_) => return,
                }
            },
        };
        let mut tail = subscribed.tail.lock();
        if tail.session == session.number && tail.is_starting() {
            tail.start(extent.map(|extent| extent.head));
            subscribed.moved.notify_waiters();
        }
    }

    /// Reads from the log what has not come by the channel.
    pub(super) async fn catch_up(&self, session: &Session, subscribed: &SubscribedRoom) {
        let Some(log) = &self.log else {
            subscribed.tail.lock().start(None);
            return subscribed.moved.notify_waiters();
        };
        let mut missed = false;
        loop {
            let after = {
                let mut tail = subscribed.tail.lock();
                if tail.session != session.number || tail.is_live() {
                    return;
                }
                tail.look()
            };
            let (limit, max_bytes) = PAGE;
            let page =
                log.read(&subscribed.key, Query { after, limit, max_bytes, receipts: false });
            let page = match page.await {
                Ok(page) => page,
                Err(_) if session.is_open() => {
                    sleep(RETRY).await;
                    continue;
                }
                Err(_) => return,
            };
            let mut tail = subscribed.tail.lock();
            if tail.session != session.number {
                return;
            }
            let turn = tail.catch_up(&page, |position, item| {
                missed = true;
                self.fanout.stored(&subscribed.key, position, &item.entry, &item.except);
            });
            subscribed.moved.notify_waiters();
            drop(tail);
            match turn {
                Turn::Again => {}
                Turn::Lost => self.send_home(&subscribed.key),
                Turn::Done => {
                    if missed {
                        self.counters.caught_up.inc();
                    }
                    return;
                }
            }
        }
    }

    /// Disconnects members that would miss messages without knowing: they reconnect and recover, or learn
    /// that they cannot.
    fn send_home(&self, key: &RoomKey) {
        let room =
            self.registry.namespace(&key.namespace).and_then(|home| home.room(key.room.as_str()));
        let Some(room) = room else { return };
        let members = room.lock().members().map(|member| member.client.clone()).collect::<Vec<_>>();
        tracing::warn!(room = %key.room, namespace = %key.namespace, members = members.len(), "the history no longer contains messages that were missed: disconnecting the members");
        for client in members {
            client.sender.break_off();
        }
    }
}
