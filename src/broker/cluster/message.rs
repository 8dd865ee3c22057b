//! Node messages: what nodes tell one another, and their encoding.
//!
//! A message is a version byte, a JSON header, and the packet that it carries, if any: its JSON text
//! and its attachments as they are, so that nothing is parsed or escaped on the way. Each part is
//! preceded by its length.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    hub::packet::{KeptFor, Packet},
    protocol::{
        audience::Except,
        client_id::ClientId,
        names::{RoomName, UserId},
        payload::Payload,
        timestamp::Timestamp,
    },
};

/// The first byte of a node message; the store's messages on a room's channel begin with another.
pub(super) const VERSION: u8 = 1;

/// A room in its namespace, as nodes name it to one another.
pub type Place = (Arc<str>, RoomName);

/// A message from one node to others.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NodeMessage {
    /// Proof that messages through Redis reach the sending node itself.
    Beat,
    /// To the sending node alone: it has heard all that was published in an instance before.
    Mark {
        /// Its number.
        number: u64,
    },
    /// A signal to the members of a room.
    Room {
        /// The room.
        place: Place,
        /// Who is left out.
        #[serde(default, skip_serializing_if = "Except::is_nobody")]
        except: Except,
    },
    /// A message to the members of a room on a server without history; the sending node's own members get it
    /// this way, too.
    Unlogged {
        /// The room.
        place: Place,
        /// Who is left out.
        #[serde(default, skip_serializing_if = "Except::is_nobody")]
        except: Except,
        /// The message's number among the sending node's.
        number: u64,
    },
    /// A signal to the members of these rooms, once to each.
    Rooms {
        /// Their namespace.
        namespace: Arc<str>,
        /// The rooms.
        rooms: Vec<RoomName>,
        /// Who is left out.
        #[serde(default, skip_serializing_if = "Except::is_nobody")]
        except: Except,
    },
    /// A signal to every client of a namespace.
    Namespace {
        /// The namespace.
        namespace: Arc<str>,
        /// Who is left out.
        #[serde(default, skip_serializing_if = "Except::is_nobody")]
        except: Except,
        /// Whether it announces that a client came or went; not delivered where there are too many clients.
        #[serde(default)]
        announcement: bool,
    },
    /// A signal to clients, in any namespace.
    Clients {
        /// Their ids.
        clients: Vec<ClientId>,
        /// Who is left out.
        #[serde(default, skip_serializing_if = "Except::is_nobody")]
        except: Except,
    },
    /// A packet that has reached this user: it is for the clients that may miss it because they have lost their
    /// connections.
    Keep {
        /// The user.
        user: UserId,
        /// Who is left out.
        #[serde(default, skip_serializing_if = "Except::is_nobody")]
        except: Except,
    },
    /// News of a user, for those that may see it.
    Presence(News),
    /// Something waits in this user's queue.
    Wake {
        /// The user.
        user: UserId,
    },
    /// The sending node asks to deliver this user's queue, which another node holds, to a client that has
    /// connected.
    Claim {
        /// The user.
        user: UserId,
        /// When its client connected.
        since: Timestamp,
    },
    /// A question, to be answered to the sending node alone.
    Ask {
        /// The question's number on the sending node.
        id: u64,
        /// The question.
        question: Box<RawValue>,
    },
    /// The answer to a question.
    Answer {
        /// The question's number.
        id: u64,
        /// The answer.
        answer: Box<RawValue>,
    },
}

/// The audience of news of a user.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct News {
    /// The rooms in which others see it.
    pub rooms: Vec<Place>,
    /// The user, if its own clients, and those that share a room with them, are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<UserId>,
    /// The client that caused the news, which need not be told, and its namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<(ClientId, Arc<str>)>,
}

/// A node message that has come.
#[derive(Debug)]
pub struct Message {
    /// The node that sent it.
    pub from: Arc<str>,
    /// The message itself.
    pub word: NodeMessage,
    /// The packet for clients, if any.
    pub packet: Option<Packet>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HeaderRef<'a> {
    from: &'a str,
    word: &'a NodeMessage,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    /// The packet's payload is an array of all arguments.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    list: bool,
    /// The number and the recipients of a packet that is kept for those that lose their connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<(u64, &'a KeptFor)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    from: Arc<str>,
    word: NodeMessage,
    event: Option<String>,
    #[serde(default)]
    list: bool,
    #[serde(default)]
    kept: Option<(u64, KeptFor)>,
}

/// The bytes are not a message of this version.
#[derive(Debug, thiserror::Error)]
#[error("not a message of a node of this version: {0}")]
pub(super) struct Unreadable(&'static str);

/// Writes a message. `kept` is what the other nodes are told of a packet that is kept.
pub(super) fn encode(
    from: &str,
    word: &NodeMessage,
    packet: Option<&Packet>,
    kept: Option<(u64, &KeptFor)>,
) -> Bytes {
    let list = packet.is_some_and(Packet::is_list);
    let header = HeaderRef { from, word, event: packet.map(Packet::event), list, kept };
    let header = crate::protocol::payload::json_of(&header);
    let body = packet.map_or(0, |packet| packet.payload().size() + 16);
    let mut bytes = BytesMut::with_capacity(header.get().len() + body + 8);
    bytes.put_u8(VERSION);
    part(&mut bytes, header.get().as_bytes());
    if let Some(packet) = packet {
        part(&mut bytes, packet.payload().json().as_bytes());
        for attachment in packet.payload().attachments() {
            part(&mut bytes, attachment);
        }
    }
    bytes.freeze()
}

fn part(bytes: &mut BytesMut, part: &[u8]) {
    // `MAX_PAYLOAD` keeps every part far below `u32::MAX` bytes.
    bytes.put_u32(u32::try_from(part.len()).unwrap_or(u32::MAX));
    bytes.put_slice(part);
}

/// Reads a message.
///
/// # Errors
/// If another version, or something else, has written the bytes.
pub(super) fn decode(mut bytes: Bytes) -> Result<Message, Unreadable> {
    if bytes.try_get_u8() != Ok(VERSION) {
        return Err(Unreadable("the first byte"));
    }
    let header = next(&mut bytes)?;
    let header: Header = serde_json::from_slice(&header).map_err(|_| Unreadable("the header"))?;
    let packet = match header.event {
        None => None,
        Some(event) => {
            let json = next(&mut bytes)?;
            let json = serde_json::from_slice::<Box<RawValue>>(&json);
            let json = json.map_err(|_| Unreadable("the packet"))?;
            let mut attachments = Vec::new();
            while bytes.has_remaining() {
                attachments.push(next(&mut bytes)?);
            }
            let payload = Payload::stored(Box::<str>::from(json).into(), &attachments);
            let packet = Packet::with(event, payload, header.list);
            Some(match header.kept {
                Some((number, audience)) => packet.kept_as(number, audience),
                None => packet,
            })
        }
    };
    Ok(Message { from: header.from, word: header.word, packet })
}

fn next(bytes: &mut Bytes) -> Result<Bytes, Unreadable> {
    let length = bytes.try_get_u32().map_err(|_| Unreadable("a part's length"))? as usize;
    if length > bytes.len() {
        return Err(Unreadable("a part's length"));
    }
    Ok(bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::protocol::payload::raw;

    fn words() -> Vec<NodeMessage> {
        let place = || (Arc::from("/chat"), RoomName::parse("r \"7\"").unwrap());
        let user = || UserId::parse("ann").unwrap();
        let except = Except { users: vec![user()], rooms: vec![place().1], ..Except::default() };
        vec![
            NodeMessage::Beat,
            NodeMessage::Room { place: place(), except: Except::nobody() },
            NodeMessage::Unlogged { place: place(), except: except.clone(), number: 7 },
            NodeMessage::Rooms {
                namespace: "/".into(),
                rooms: vec![place().1],
                except: except.clone(),
            },
            NodeMessage::Namespace { namespace: "/".into(), except, announcement: true },
            NodeMessage::Clients { clients: vec![ClientId::make()], except: Except::nobody() },
            NodeMessage::Presence(News {
                rooms: vec![place()],
                own: Some(user()),
                subject: Some((ClientId::make(), "/".into())),
            }),
            NodeMessage::Keep { user: user(), except: Except::nobody() },
            NodeMessage::Wake { user: user() },
            NodeMessage::Claim { user: user(), since: Timestamp::now() },
            NodeMessage::Ask { id: u64::MAX, question: raw(r#"{"a":1}"#) },
            NodeMessage::Answer { id: 0, answer: raw("null") },
        ]
    }

    #[test]
    fn every_word_is_read_as_it_was_written() {
        let attachments = [Bytes::from_static(b"\x00\xff"), Bytes::new()];
        let packet =
            Packet::new("e", Payload::stored(r#"{"z": 1,"a":"\u00e9"}"#.into(), &attachments));
        let list = Packet::with("e", Payload::stored("[1,2]".into(), &[]), true);
        for word in words() {
            for packet in [None, Some(&packet), Some(&list)] {
                let read = decode(encode("n1", &word, packet, None)).unwrap();
                assert_eq!(&*read.from, "n1");
                assert!(!read.packet.as_ref().is_some_and(Packet::is_kept));
                let room = || RoomName::parse("r").unwrap();
                let rooms = KeptFor::Rooms([room(), room()].into());
                for audience in [KeptFor::Direct, KeptFor::Room(room()), rooms] {
                    let kept = Some((u64::MAX, &audience)).filter(|_| packet.is_some());
                    let read = decode(encode("n1", &word, packet, kept)).unwrap();
                    assert_eq!(read.packet.is_some(), kept.is_some());
                    assert!(read.packet.is_none_or(|packet| packet.is_kept()));
                }
                assert_eq!(json!(read.word), json!(word));
                let said = |packet: &Packet| {
                    let payload = packet.payload();
                    (
                        packet.event().to_owned(),
                        payload.json().into_owned(),
                        payload.attachments().to_vec(),
                        packet.is_list(),
                    )
                };
                assert_eq!(read.packet.as_ref().map(said), packet.map(said));
            }
        }
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        let packet = Packet::of("e", &Value::Null);
        for word in words() {
            let whole = encode("n1", &word, Some(&packet), None);
            for length in 0..whole.len() {
                assert!(decode(whole.slice(..length)).is_err(), "{length} of {}", whole.len());
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(bytes.into());
        }
    }
}
