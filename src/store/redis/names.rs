//! The names of rooms and channels in Redis.

use crate::{protocol::names::RoomName, store::types::RoomKey};

/// Separates a namespace from a room; no name has a control character.
const SEPARATOR: char = '\u{1f}';

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
    let part = channel.strip_prefix(prefix)?.strip_prefix(":room:")?;
    let (namespace, name) = part.split_once(SEPARATOR)?;
    Some(RoomKey { namespace: namespace.into(), room: RoomName::parse(name).ok()? })
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
