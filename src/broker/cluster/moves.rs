//! What the sessions of clients need that move from one node to another.
//!
//! A node at which a client arrives first keeps for it what comes from now on, and then has its session handed over
//! by the node that it has left. Nothing may fall in between: what this node has given to its own clients before it
//! began to keep must be on its way to the other node before the question is.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use super::{
    Cluster, Inner,
    message::{NodeMessage, encode},
    session::Away,
};
use crate::{hub::packet::Packet, protocol::position::Position, store::RoomKey};

/// How long it is remembered which node holds a session that has moved; renewed more often.
const REMEMBERED: Duration = Duration::from_mins(10);

/// The packets that are being given to this node's clients, and to the outbox for those of other nodes.
#[derive(Debug, Default)]
pub(super) struct Sending {
    /// Those that somebody waits for, in groups, and those that have begun since.
    begun: Mutex<Vec<TaskTracker>>,
}

/// Held while a packet is given to this node's clients, until it is in the outbox, too.
#[derive(Debug)]
pub struct SendingToken(#[expect(dead_code, reason = "held for its Drop")] TaskTrackerToken);

impl Sending {
    fn begin(&self) -> SendingToken {
        let mut begun = self.begun.lock();
        if let Some(group) = begun.last().filter(|group| !group.is_closed()) {
            return SendingToken(group.token());
        }
        let group = TaskTracker::new();
        let token = group.token();
        begun.push(group);
        SendingToken(token)
    }

    /// Waits until what has begun before is in the outbox, whoever else waits for it or has given up.
    async fn done(&self) {
        let before = {
            let mut begun = self.begun.lock();
            begun.retain(|group| !group.is_empty());
            for group in &*begun {
                group.close();
            }
            begun.clone()
        };
        for group in before {
            group.wait().await;
        }
    }
}

impl Inner {
    /// Writes a message of this node.
    pub(super) fn encode(&self, word: &NodeMessage, packet: Option<&Packet>) -> Bytes {
        let kept = packet.and_then(|packet| packet.kept(&self.wire));
        encode(&self.node, word, packet, kept)
    }
}

impl Cluster {
    /// This node's name.
    pub fn node(&self) -> &str {
        &self.0.node
    }

    /// A packet that is kept for lost clients is being sent.
    pub fn sending(&self) -> SendingToken {
        self.0.sending.begin()
    }

    /// Waits until what this node has begun to send is published.
    pub async fn all_sent(&self) {
        self.0.sending.done().await;
        self.flush().await;
    }

    /// Waits until this node has heard of all that was published before: what other nodes send to rooms comes by the
    /// rooms' instances, and a question by the first. False if that takes too long.
    pub async fn all_heard(&self) -> bool {
        let others = self.0.instances[1..].iter().map(|instance| instance.all_heard(&self.0));
        join_all(others).await.into_iter().all(|heard| heard)
    }

    /// Up to where the log of a room, whose channel this node listens on, has been delivered here; `None` without a
    /// log.
    pub fn position(&self, room: &RoomKey) -> Option<Position> {
        self.of(room).subscriptions.position(room)
    }

    /// Asks one node; `None` if it does not answer within this time.
    ///
    /// # Errors
    /// While Redis is away.
    pub async fn ask_node<T: DeserializeOwned>(
        &self,
        node: &str,
        question: &impl Serialize,
        within: Duration,
    ) -> Result<Option<T>, Away> {
        let nodes = vec![node.to_owned()];
        let answers = self.ask_nodes_within(nodes, question, None, within).await?;
        Ok(answers.answers.into_iter().next())
    }

    /// The node to which the session with this secret has moved, if it has.
    ///
    /// # Errors
    /// While Redis is away.
    pub async fn holder(&self, pid: &str) -> Result<Option<String>, Away> {
        let mut command = redis::cmd("GET");
        command.arg(self.0.keys.session(pid));
        self.session()?.query(&command).await
    }

    /// Remembers for a while that this node holds these sessions, which have moved.
    ///
    /// # Errors
    /// While Redis is away.
    pub async fn hold(&self, pids: impl Iterator<Item = &str>) -> Result<(), Away> {
        let mut pipeline = redis::pipe();
        for pid in pids {
            let set = pipeline.cmd("SET").arg(self.0.keys.session(pid)).arg(&*self.0.node);
            set.arg("EX").arg(REMEMBERED.as_secs()).ignore();
        }
        if pipeline.is_empty() {
            return Ok(());
        }
        self.session()?.pipeline(&pipeline).await
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};

    use futures_util::FutureExt;

    use super::*;

    fn is_waiting(mut waiter: Pin<&mut impl Future<Output = ()>>) -> bool {
        waiter.as_mut().now_or_never().is_none()
    }

    #[tokio::test]
    async fn everyone_waits_for_all_that_has_begun_before_and_for_nothing_else() {
        let sending = Sending::default();
        sending.done().await;
        let packet = sending.begin();
        let mut gives_up = Box::pin(sending.done());
        let mut waits = pin!(sending.done());
        assert!(is_waiting(gives_up.as_mut()) && is_waiting(waits.as_mut()));
        let later = sending.begin();
        drop(gives_up);
        let mut comes_later = pin!(sending.done());
        assert!(is_waiting(comes_later.as_mut()) && is_waiting(waits.as_mut()));
        drop(packet);
        waits.await;
        assert!(is_waiting(comes_later.as_mut()));
        let newest = sending.begin();
        drop(later);
        comes_later.await;
        drop(newest);
        sending.done().await;
        assert!(sending.begun.lock().is_empty());
    }
}
