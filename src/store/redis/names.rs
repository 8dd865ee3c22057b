//! The names of rooms, channels and connections in Redis.

use crate::{protocol::names::RoomName, store::types::RoomKey};

/// Separates a namespace from a room; no name has a control character.
const SEPARATOR: char = '\u{1f}';

/// What the names of nodes' connections begin with.
const NODE: &str = "roomcast-";

/// The room as a part of a key.
pub(super) fn room_part(room: &RoomKey) -> String {
    let (namespace, name) = (&*room.namespace, room.room.as_str());
    let mut part = String::with_capacity(namespace.len() + 1 + name.len());
    part.push_str(namespace);
    part.push(SEPARATOR);
    part.push_str(name);
    part
}

/// The channel on which the room's messages are published once they are committed.
pub fn room_channel(prefix: &str, room: &RoomKey) -> String {
    format!("{prefix}:room:{}", room_part(room))
}

/// The room whose channel this is, if it is one of this prefix.
pub fn room_of_channel(prefix: &str, channel: &str) -> Option<RoomKey> {
    room_of_part(channel.strip_prefix(prefix)?.strip_prefix(":room:")?)
}

/// The room of a [part](room_part) of a key.
pub(super) fn room_of_part(part: &str) -> Option<RoomKey> {
    let (namespace, name) = part.split_once(SEPARATOR)?;
    Some(RoomKey { namespace: namespace.into(), room: RoomName::parse(name).ok()? })
}

/// The key that every script declares, and that never exists. In a Redis Cluster it has the slot of all keys that
/// scripts touch: a node that does not serve that slot, or moves it to another one, refuses the script before it begins.
pub fn slot_key(prefix: &str) -> String {
    format!("{prefix}:slot")
}

/// Whether the keys with this prefix are in one slot of a Redis Cluster; no other prefix has braces.
pub fn is_in_slot(prefix: &str) -> bool {
    prefix.contains('{')
}

/// The name of all of a node's connections. Redis takes no blanks and no control characters in a name.
pub fn connection_name(node: &str) -> String {
    format!("{NODE}{node}").replace(|c: char| !c.is_ascii_graphic(), "_")
}

/// Whether a connection with this name is a node's.
pub(super) fn is_of_node(name: &str) -> bool {
    name.starts_with(NODE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_names_its_room() {
        let room =
            RoomKey { namespace: "/chat:x".into(), room: RoomName::parse("a:b ✓").unwrap() };
        let channel = room_channel("my:app", &room);
        assert_eq!(channel, "my:app:room:/chat:x\u{1f}a:b ✓");
        assert_eq!(room_of_channel("my:app", &channel), Some(room));
        for other in ["my:app:nodes", "my:app:room:/", "my:app:room:/\u{1f}", "other:room:/\u{1f}a"]
        {
            assert_eq!(room_of_channel("my:app", other), None, "{other:?}");
        }
    }
}
