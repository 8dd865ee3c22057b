//! The encoding of messages in Redis and on its channels: compact, binary-safe and versioned, so that nodes
//! of two releases refuse what they cannot read instead of misreading it.
//!
//! All numbers are big-endian; a text is its length (4 bytes) and its UTF-8. The Lua scripts read
//! the head of an entry, up to its id.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use super::types::{Committed, Entry, RoomKey};
use crate::protocol::{
    audience::Except,
    epoch::Epoch,
    names::{RoomName, UserId},
    position::Position,
};

/// The first byte of a committed message on its room's channel. Everything else published there begins with
/// another byte.
pub const COMMITTED_TAG: u8 = b'm';

/// The version of every encoding of this module.
const VERSION: u8 = 1;

/// The bytes are not what this version of the server writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a message of this version of the server; run the same version on all nodes")]
pub struct DecodeError;

/// Encodes an entry.
pub fn encode_entry(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(25 + 4 * entry.attachments.len() + entry.size());
    bytes.put_u8(VERSION);
    bytes.put_i64(entry.timestamp_ms);
    put_len(&mut bytes, entry.attachments.len());
    put_text(&mut bytes, &entry.id);
    put_text(&mut bytes, &entry.event);
    put_text(&mut bytes, &entry.json);
    for attachment in &entry.attachments {
        put_bytes(&mut bytes, attachment);
    }
    bytes
}

/// Decodes an entry.
pub fn decode_entry(bytes: &[u8]) -> Result<Entry, DecodeError> {
    let mut rest = bytes;
    version(&mut rest)?;
    let timestamp_ms = rest.try_get_i64().map_err(|_| DecodeError)?;
    let attachments = len(&mut rest)?;
    let id = text(&mut rest)?.to_owned();
    let event = text(&mut rest)?.to_owned();
    let json = text(&mut rest)?.into();
    let attachments = (0..attachments)
        .map(|_| blob(&mut rest).map(Bytes::copy_from_slice))
        .collect::<Result<_, _>>()?;
    end(rest)?;
    Ok(Entry { id, event, json, attachments, timestamp_ms })
}

/// Encodes the recipients to skip; empty for none.
pub fn encode_except(except: &Except) -> Vec<u8> {
    let mut bytes = Vec::new();
    if *except == Except::nobody() {
        return bytes;
    }
    bytes.put_u8(VERSION);
    put_len(&mut bytes, except.clients.len());
    for client in &except.clients {
        put_text(&mut bytes, client.as_str());
    }
    put_len(&mut bytes, except.users.len());
    for user in &except.users {
        put_text(&mut bytes, user.as_str());
    }
    put_len(&mut bytes, except.rooms.len());
    for room in &except.rooms {
        put_text(&mut bytes, room.as_str());
    }
    bytes.put_u8(u8::from(except.namespace.is_some()));
    put_text(&mut bytes, except.namespace.as_deref().unwrap_or_default());
    bytes
}

/// Decodes the recipients to skip.
pub fn decode_except(bytes: &[u8]) -> Result<Except, DecodeError> {
    if bytes.is_empty() {
        return Ok(Except::nobody());
    }
    let mut rest = bytes;
    version(&mut rest)?;
    let clients = list(&mut rest, |text| text.parse().map_err(|_| DecodeError))?;
    let users = list(&mut rest, |text| UserId::parse(text).map_err(|_| DecodeError))?;
    let rooms = list(&mut rest, |text| RoomName::parse(text).map_err(|_| DecodeError))?;
    let named = rest.try_get_u8().map_err(|_| DecodeError)?;
    let namespace = text(&mut rest)?;
    let namespace = match named {
        0 if namespace.is_empty() => None,
        1 => Some(Arc::from(namespace)),
        _ => return Err(DecodeError),
    };
    end(rest)?;
    let except = Except { clients, users, rooms, namespace };
    // "Nobody" has only one encoding, the empty one.
    if except == Except::nobody() { Err(DecodeError) } else { Ok(except) }
}

/// What the append script publishes.
#[derive(Debug)]
pub(super) struct Published<'a> {
    /// The run of Redis that published it.
    pub run: &'a str,
    /// The message's place in the whole log.
    pub number: u64,
    pub committed: Committed,
}

/// Decodes what the append script publishes.
pub(super) fn decode_committed(
    room: RoomKey,
    payload: &[u8],
) -> Result<Published<'_>, DecodeError> {
    let mut rest = payload;
    if rest.try_get_u8().ok() != Some(COMMITTED_TAG) {
        return Err(DecodeError);
    }
    version(&mut rest)?;
    let number = rest.try_get_u64().map_err(|_| DecodeError)?;
    let offset = rest.try_get_u64().map_err(|_| DecodeError)?;
    let position = Position { offset, epoch: epoch(text(&mut rest)?)? };
    let run = text(&mut rest)?;
    let except = decode_except(blob(&mut rest)?)?;
    let entry = Arc::new(decode_entry(rest)?);
    Ok(Published { run, number, committed: Committed { room, position, entry, except } })
}

/// Parses an epoch as the scripts write it.
pub(super) fn epoch(text: &str) -> Result<Epoch, DecodeError> {
    text.parse().map_err(|_| DecodeError)
}

fn put_len(bytes: &mut Vec<u8>, len: usize) {
    // The gateways let nothing near 4 GB in.
    bytes.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
}

fn put_bytes(bytes: &mut Vec<u8>, blob: &[u8]) {
    put_len(bytes, blob.len());
    bytes.put_slice(blob);
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_bytes(bytes, text.as_bytes());
}

fn version(rest: &mut &[u8]) -> Result<(), DecodeError> {
    if rest.try_get_u8().ok() == Some(VERSION) { Ok(()) } else { Err(DecodeError) }
}

fn len(rest: &mut &[u8]) -> Result<usize, DecodeError> {
    let len = rest.try_get_u32().map_err(|_| DecodeError)?;
    usize::try_from(len).map_err(|_| DecodeError)
}

fn blob<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let (blob, after) = len(rest).and_then(|len| rest.split_at_checked(len).ok_or(DecodeError))?;
    *rest = after;
    Ok(blob)
}

fn text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, DecodeError> {
    std::str::from_utf8(blob(rest)?).map_err(|_| DecodeError)
}

fn list<T>(
    rest: &mut &[u8],
    item: impl Fn(&str) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    (0..len(rest)?).map(|_| item(text(rest)?)).collect()
}

fn end(rest: &[u8]) -> Result<(), DecodeError> {
    if rest.is_empty() { Ok(()) } else { Err(DecodeError) }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    fn entries() -> impl Strategy<Value = Entry> {
        (".*", ".*", ".*", vec(vec(any::<u8>(), 0..20), 0..4), any::<i64>()).prop_map(
            |(id, event, json, attachments, timestamp_ms)| Entry {
                id,
                event,
                json: json.into(),
                attachments: attachments.into_iter().map(Bytes::from).collect(),
                timestamp_ms,
            },
        )
    }

    fn excepts() -> impl Strategy<Value = Except> {
        let name = "[a-zü✓ :]{1,12}";
        (0..3usize, vec(name, 0..3), vec(name, 0..3), option::of("/[a-z]{0,5}")).prop_map(
            |(clients, users, rooms, namespace)| Except {
                clients: (0..clients)
                    .map(|_| crate::protocol::client_id::ClientId::make())
                    .collect(),
                users: users.iter().map(|name| UserId::parse(name).unwrap()).collect(),
                rooms: rooms.iter().map(|name| RoomName::parse(name).unwrap()).collect(),
                namespace: namespace.map(Arc::from),
            },
        )
    }

    fn room() -> RoomKey {
        RoomKey { namespace: "/".into(), room: RoomName::parse("a").unwrap() }
    }

    /// Encodes a message as the append script does.
    fn committed(entry: &Entry, except: &Except) -> Vec<u8> {
        let mut bytes = vec![COMMITTED_TAG, VERSION];
        bytes.put_u64(7);
        bytes.put_u64(3);
        put_text(&mut bytes, "00abcdef01234567");
        put_text(&mut bytes, "a run");
        put_bytes(&mut bytes, &encode_except(except));
        bytes.put_slice(&encode_entry(entry));
        bytes
    }

    proptest! {
        #[test]
        fn an_entry_comes_back_to_the_letter(entry in entries()) {
            let bytes = encode_entry(&entry);
            prop_assert_eq!(bytes.len(), 25 + 4 * entry.attachments.len() + entry.size());
            prop_assert_eq!(decode_entry(&bytes), Ok(entry));
        }

        #[test]
        fn who_is_left_out_comes_back(except in excepts()) {
            prop_assert_eq!(decode_except(&encode_except(&except)), Ok(except));
        }

        #[test]
        fn a_committed_message_comes_back(entry in entries(), except in excepts()) {
            let bytes = committed(&entry, &except);
            let Published { run, number, committed: read } = decode_committed(room(), &bytes).unwrap();
            prop_assert_eq!((run, number, read.position.offset, read.position.epoch.to_string()), ("a run", 7, 3, "00abcdef01234567".to_owned()));
            prop_assert_eq!((&*read.entry, &read.except), (&entry, &except));
        }

        #[test]
        fn what_is_cut_short_or_too_long_is_refused(entry in entries(), except in excepts(), cut in any::<prop::sample::Index>()) {
            let whole = committed(&entry, &except);
            prop_assert!(decode_committed(room(), &whole[..cut.index(whole.len())]).is_err());
            let longer = [whole, vec![0]].concat();
            prop_assert!(decode_committed(room(), &longer).is_err());
        }

        #[test]
        fn garbage_is_refused_and_takes_no_memory(bytes in vec(any::<u8>(), 0..200)) {
            // A valid version at the start, so that the rest is read.
            let bytes = [vec![VERSION], bytes].concat();
            for read in [decode_entry(&bytes).map(|entry| encode_entry(&entry)), decode_except(&bytes).map(|except| encode_except(&except))] {
                prop_assert!(read.is_err() || read == Ok(bytes.clone()), "only what it would write");
            }
            prop_assert!(decode_committed(room(), &bytes).is_err());
        }
    }

    #[test]
    fn another_version_is_refused() {
        let entry = crate::store::tests::entry();
        let mut bytes = encode_entry(&entry);
        bytes[0] += 1;
        assert_eq!(decode_entry(&bytes), Err(DecodeError));
        let mut bytes = committed(&entry, &Except::nobody());
        bytes[1] += 1;
        assert!(decode_committed(room(), &bytes).is_err());
    }
}
