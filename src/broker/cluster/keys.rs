//! The names of the nodes' keys and channels in Redis.
//!
//! All begin with `REDIS_PREFIX` and a colon. The store's own keys are named in [`crate::store`].

use std::sync::Arc;

use crate::store::{RoomKey, is_in_slot, room_channel, room_of_channel, slot_key};

/// The names below one prefix.
#[derive(Debug, Clone)]
pub(super) struct Keys(Arc<str>);

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self(prefix.into())
    }

    /// Whether they are all in one slot of a Redis Cluster.
    pub(super) fn are_in_slot(&self) -> bool {
        is_in_slot(&self.0)
    }

    /// The command that publishes on one of the channels.
    pub(super) fn publish(&self) -> &'static str {
        if self.are_in_slot() { "SPUBLISH" } else { "PUBLISH" }
    }

    /// The call of a script with these keys. Behind them is the key that never exists, without which a script might begin
    /// while some of the keys that it touches are on their way to another node.
    pub(super) fn call(&self, script: &redis::Script, keys: &[String]) -> redis::Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(script.get_hash()).arg(keys.len() + 1).arg(keys).arg(slot_key(&self.0));
        call
    }

    /// The prefix of every user's hash: its clients by node, its status, when it was last active.
    pub(super) fn users(&self) -> String {
        format!("{}:user:", self.0)
    }

    /// One user's hash.
    pub(super) fn user(&self, user: &str) -> String {
        format!("{}:user:{user}", self.0)
    }

    /// The users that are online, including those in their grace period.
    pub(super) fn online(&self) -> String {
        format!("{}:online", self.0)
    }

    /// The users in their grace period, by the moment at which it ends.
    pub(super) fn departures(&self) -> String {
        format!("{}:departures", self.0)
    }

    /// The nodes, by the moment at which their lease ends.
    pub(super) fn nodes(&self) -> String {
        format!("{}:nodes", self.0)
    }

    /// Which node holds a session that has moved.
    pub(super) fn session(&self, pid: &str) -> String {
        format!("{}:session:{pid}", self.0)
    }

    /// The users that have clients on a node; their entries end with the node.
    pub(super) fn users_of(&self, node: &str) -> String {
        format!("{}:node:{node}:users", self.0)
    }

    /// The channel that every node listens on.
    pub(super) fn to_all(&self) -> String {
        format!("{}:nodes", self.0)
    }

    /// The channel that one node listens on.
    pub(super) fn to_node(&self, node: &str) -> String {
        format!("{}:node:{node}", self.0)
    }

    /// The channel on which a node hears itself, in the instance at this place.
    pub(super) fn to_self(&self, node: &str, place: usize) -> String {
        format!("{}:node:{node}:{place}", self.0)
    }

    /// The channel of a room; the nodes that have members in it listen on it.
    pub(super) fn to_room(&self, room: &RoomKey) -> String {
        room_channel(&self.0, room)
    }

    /// The room whose channel this is, if it is one.
    pub(super) fn room_of(&self, channel: &str) -> Option<RoomKey> {
        room_of_channel(&self.0, channel)
    }
}
