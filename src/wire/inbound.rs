//! Where the frames from a client begin, as far as a heartbeat has to be put between them.
//!
//! The library takes a client for dead that does not answer its ping in time, and the answer of a
//! client that is not being read from waits behind what it sent before. That it sends is a sign of
//! life, as Node's server has it, so the library is given an answer in its stead: a frame may stand
//! between any two others.

/// A pong as a client's frame. The mask is zero.
pub const PONG: [u8; 7] = [0x81, 0x81, 0, 0, 0, 0, b'3'];

/// The size of the longest header, with its mask.
const MAX_HEADER: usize = 14;

/// Follows the frames of a stream that is read in pieces of any size.
#[derive(Debug, Default)]
pub struct Inbound {
    /// The header that has begun, as far as it has come.
    header: [u8; MAX_HEADER],
    seen: usize,
    /// How much of the frame's payload has not come yet.
    left: u64,
    /// A message has begun whose last frame has not.
    fragmented: bool,
}

impl Inbound {
    /// Takes note of the next bytes.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let size =
                    usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
                bytes = &bytes[size..];
                self.left -= size as u64;
                continue;
            }
            self.header[self.seen] = bytes[0];
            self.seen += 1;
            bytes = &bytes[1..];
            if let Some(left) = self.payload() {
                self.left = left;
                self.seen = 0;
                let (last, opcode) = (self.header[0] & 0x80 != 0, self.header[0] & 0x0f);
                // Control frames may come between those of a message.
                if opcode < 8 {
                    self.fragmented = !last;
                }
            }
        }
    }

    /// Whether the next byte begins a frame, and that a message (or comes between two).
    pub fn is_between(&self) -> bool {
        self.left == 0 && self.seen == 0 && !self.fragmented
    }

    /// How many bytes may be read without going beyond the frame that has begun.
    pub fn rest(&self) -> usize {
        if self.left > 0 { usize::try_from(self.left).unwrap_or(usize::MAX) } else { 1 }
    }

    /// The size of the payload, if the header is whole.
    fn payload(&self) -> Option<u64> {
        let header = &self.header[..self.seen];
        let second = *header.get(1)?;
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let (begin, size) = match second & 0x7f {
            126 => (4, u64::from(u16::from_be_bytes(header.get(2..4)?.try_into().ok()?))),
            127 => (10, u64::from_be_bytes(header.get(2..10)?.try_into().ok()?)),
            size => (2, u64::from(size)),
        };
        (header.len() == begin + mask).then_some(size)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::{
        Message,
        protocol::{Role, WebSocket},
    };

    use super::*;

    fn client_frames(sizes: &[usize]) -> Vec<Vec<u8>> {
        let frame = |size: &usize| {
            let mut socket =
                WebSocket::from_raw_socket(std::io::Cursor::new(Vec::new()), Role::Client, None);
            socket.send(Message::Binary(vec![7; *size].into())).unwrap();
            socket.into_inner().into_inner()
        };
        sizes.iter().map(frame).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_knows_the_boundaries(
            sizes in proptest::collection::vec(
                prop_oneof![0_usize..200, 65_000_usize..70_000], 1..6),
            step in 1_usize..5000,
        ) {
            let frames = client_frames(&sizes);
            let mut ends = vec![0];
            for frame in &frames {
                ends.push(ends.last().unwrap() + frame.len());
            }
            let bytes = frames.concat();
            let (mut inbound, mut at) = (Inbound::default(), 0);
            while at < bytes.len() {
                prop_assert_eq!(inbound.is_between(), ends.contains(&at), "at {}", at);
                let next = (at + step).min(bytes.len());
                inbound.pass(&bytes[at..next]);
                at = next;
            }
            prop_assert!(inbound.is_between());
        }

        #[test]
        fn reading_the_rest_ends_at_a_boundary(size in 0_usize..70_000, begin in 1_usize..20) {
            let bytes = client_frames(&[size, 5]).concat();
            let first = client_frames(&[size])[0].len();
            let mut inbound = Inbound::default();
            let mut at = begin.min(first);
            inbound.pass(&bytes[..at]);
            while !inbound.is_between() {
                let next = at + inbound.rest();
                inbound.pass(&bytes[at..next]);
                at = next;
            }
            prop_assert_eq!(at, first);
        }
    }

    #[test]
    fn between_the_fragments_of_a_message_is_not_between_messages() {
        let mut inbound = Inbound::default();
        inbound.pass(&[0x01, 0x80, 0, 0, 0, 0]);
        assert!(!inbound.is_between(), "more of the text is to come");
        inbound.pass(&[0x89, 0x80, 0, 0, 0, 0]);
        assert!(!inbound.is_between(), "a ping changes nothing");
        inbound.pass(&[0x80, 0x80, 0, 0, 0, 0]);
        assert!(inbound.is_between());
    }

    #[test]
    fn the_pong_is_a_frame() {
        let mut server =
            WebSocket::from_raw_socket(std::io::Cursor::new(PONG.to_vec()), Role::Server, None);
        assert_eq!(server.read().unwrap(), Message::text("3"));
    }
}
