//! The head of a client's event: the namespace that it is for, and a name that the library cannot read.
//!
//! The library ends the connection over an event whose name has an escape (`"a\nb"`) or is a number, and
//! passes over events for unknown namespaces; Node's server takes the former as any event and closes over
//! the latter. So the beginning of each text frame is looked at, before the library gets it. A name that the
//! library cannot read becomes the event's first argument, behind the name [`MARK`]; who reads the event
//! takes the mark away again.
//!
//! Only the first frame of a message is looked at, and no more of it than `LOOKED_AT`.

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::{TEXT, put_client_header};

/// The name in front of a name that the library cannot read. A name that begins like it is marked, too, so that
/// no client can send the mark itself.
pub const MARK: &str = "\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}";

/// How much longer a marked event is: the mark with its quotes and a comma. A multiple of the mask's size, so
/// that the mask fits what follows.
pub const ADDED: usize = MARK.len() + 3;

const _: () = assert!(ADDED.is_multiple_of(4));

/// How much of a frame is looked at, in bytes.
const LOOKED_AT: usize = 4096;

/// What a frame begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// Nothing of interest.
    Plain,
    /// More of it has to come.
    Unknown,
    /// An event, or the answer to one.
    Packet {
        /// The namespace that it names.
        namespace: Option<String>,
        /// Where in the payload the mark has to be added.
        mark_at: Option<usize>,
    },
}

/// Looks at the frame that begins here.
pub(super) fn look(bytes: &[u8]) -> Head {
    match Payload::of(bytes) {
        Ok(mut payload) => payload.head().unwrap_or_else(|end| end),
        Err(end) => end,
    }
}

/// The frame that begins here, with the mark at this place of its payload, and what follows.
pub(super) fn mark(bytes: &[u8], at: usize) -> Bytes {
    let Some((begin, size)) = header(bytes) else { return Bytes::copy_from_slice(bytes) };
    let mask = &bytes[begin - 4..begin];
    let mut marked = BytesMut::with_capacity(bytes.len() + ADDED + 8);
    put_client_header(&mut marked, bytes[0], size.saturating_add(ADDED));
    marked.put_slice(mask);
    let (before, after) = bytes[begin..].split_at(at);
    marked.put_slice(before);
    let added = [b"\"", MARK.as_bytes(), b"\","].concat();
    marked
        .extend(added.iter().zip(mask.iter().cycle().skip(at % 4)).map(|(byte, mask)| byte ^ mask));
    marked.put_slice(after);
    marked.freeze()
}

/// The size of the payload of the frame that begins here, if its header has come.
pub(super) fn size(bytes: &[u8]) -> Option<usize> {
    header(bytes).map(|(_, size)| size)
}

/// The sizes of a client frame's header and payload.
fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    let (begin, size) = match bytes.get(1)? & 0x7f {
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        size => (2, u64::from(size)),
    };
    let begin = begin + 4;
    (bytes.len() >= begin).then_some((begin, usize::try_from(size).unwrap_or(usize::MAX)))
}

/// The payload of a text frame, as far as it is looked at.
struct Payload<'a> {
    bytes: &'a [u8],
    mask: [u8; 4],
    at: usize,
    /// What it means that there is no more of it.
    end: fn() -> Head,
}

impl<'a> Payload<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, Head> {
        let Some(first) = bytes.first() else { return Err(Head::Unknown) };
        if first & 0x7f != TEXT {
            return Err(Head::Plain);
        }
        match bytes.get(1) {
            // It breaks the protocol.
            Some(second) if second & 0x80 == 0 => return Err(Head::Plain),
            _ => {}
        }
        let Some((begin, size)) = header(bytes) else { return Err(Head::Unknown) };
        let mask = [0, 1, 2, 3].map(|at| bytes[begin - 4 + at]);
        let (payload, most) = (&bytes[begin..], size.min(LOOKED_AT));
        let is_whole = payload.len() >= most;
        let end = if is_whole { || Head::Plain } else { || Head::Unknown };
        Ok(Self { bytes: &payload[..payload.len().min(most)], mask, at: 0, end })
    }

    fn peek(&self) -> Result<u8, Head> {
        let byte = self.bytes.get(self.at).ok_or_else(self.end)?;
        Ok(byte ^ self.mask[self.at % 4])
    }

    fn next(&mut self) -> Result<u8, Head> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    fn digits(&mut self) -> Result<(), Head> {
        while self.peek()?.is_ascii_digit() {
            self.at += 1;
        }
        Ok(())
    }

    /// `4` (message), the kind, of a binary one the number of attachments and `-`, the namespace unless it is
    /// `/` and a comma, the number to acknowledge, the array.
    fn head(&mut self) -> Result<Head, Head> {
        if self.next()? != b'4' {
            return Ok(Head::Plain);
        }
        let kind = self.next()?;
        match kind {
            b'2' | b'3' => {}
            b'5' | b'6' => {
                self.digits()?;
                if self.next()? != b'-' {
                    return Ok(Head::Plain);
                }
            }
            _ => return Ok(Head::Plain),
        }
        let namespace = self.namespace()?;
        let is_event = matches!(kind, b'2' | b'5');
        let mark_at = if is_event { self.mark_at()? } else { None };
        if namespace.is_none() && mark_at.is_none() {
            return Ok(Head::Plain);
        }
        Ok(Head::Packet { namespace, mark_at })
    }

    fn namespace(&mut self) -> Result<Option<String>, Head> {
        if self.peek()? != b'/' {
            return Ok(None);
        }
        let mut namespace = Vec::new();
        loop {
            match self.next()? {
                b',' => return Ok(Some(String::from_utf8(namespace).map_err(|_| Head::Plain)?)),
                byte => namespace.push(byte),
            }
        }
    }

    /// Where the mark belongs, if the library cannot read the name.
    fn mark_at(&mut self) -> Result<Option<usize>, Head> {
        self.digits()?;
        if self.next()? != b'[' {
            return Ok(None);
        }
        let at = self.at;
        while matches!(self.peek()?, b' ' | b'\t' | b'\r' | b'\n') {
            self.at += 1;
        }
        match self.next()? {
            b'"' => {}
            b'-' | b'0'..=b'9' => return Ok(Some(at)),
            _ => return Ok(None),
        }
        let mut name = self.next()?;
        let is_like_the_mark = name == MARK.as_bytes()[0];
        loop {
            match name {
                b'"' => return Ok(is_like_the_mark.then_some(at)),
                b'\\' => return Ok(Some(at)),
                _ => name = self.next()?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transport::{frame::put_client_frame, inbound};

    fn frame(text: &str) -> Vec<u8> {
        inbound::frame(text.as_bytes())
    }

    fn packet(namespace: Option<&str>, mark_at: Option<usize>) -> Head {
        Head::Packet { namespace: namespace.map(str::to_owned), mark_at }
    }

    #[test]
    fn namespaces_and_names_are_found() {
        for (text, wanted) in [
            ("42[\"message\",{}]", Head::Plain),
            ("4217[\"message\",{}]", Head::Plain),
            ("42[]", Head::Plain),
            ("42", Head::Plain),
            ("42{}", Head::Plain),
            ("40/chat,{}", Head::Plain),
            ("3", Head::Plain),
            ("", Head::Plain),
            ("43/a,1[]", packet(Some("/a"), None)),
            ("42/chat,[\"a\"]", packet(Some("/chat"), None)),
            ("42[\"a\\nb\"]", packet(None, Some(3))),
            ("42[ \"a\\nb\"]", packet(None, Some(3))),
            ("42/a,1[\"\\u0061\"]", packet(Some("/a"), Some(7))),
            ("452-/a,1[\"\\\"\"]", packet(Some("/a"), Some(9))),
            ("42[7]", packet(None, Some(3))),
            ("42[\"\u{7f}\"]", packet(None, Some(3))),
            ("42[\"a\",\"\\n\"]", Head::Plain),
        ] {
            assert_eq!(look(&frame(text)), wanted, "{text}");
        }
        let mut binary = Vec::new();
        put_client_frame(&mut binary, crate::transport::frame::BINARY, &[b"42/a,[\"\\n\"]"]);
        assert_eq!(look(&binary), Head::Plain);
        assert_eq!(look(b"\x81\x0542[1]"), Head::Plain, "not masked");
    }

    #[test]
    fn what_has_not_come_is_unknown() {
        let whole = frame("42/chat,[\"a\\nb\"]");
        for size in 0..whole.len() - 5 {
            assert_eq!(look(&whole[..size]), Head::Unknown, "{size}");
        }
        let long = frame(&format!("42[\"{}\\n\"]", "x".repeat(LOOKED_AT)));
        assert_eq!(look(&long), Head::Plain);
    }

    proptest! {
        #[test]
        fn a_marked_frame_is_the_event_behind_its_mark(
            size in prop_oneof![0_usize..130, 65_400_usize..65_600],
            mask: [u8; 4],
            has_come in 0_usize..100,
        ) {
            let text = format!("42/a,12[\"\\n\",\"{}\"]", "x".repeat(size));
            let mut whole = BytesMut::new();
            put_client_header(&mut whole, 0x81, text.len());
            whole.put_slice(&mask);
            whole.extend(text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
            let Head::Packet { mark_at: Some(at), .. } = look(&whole) else { panic!("{text}") };
            let begin = header(&whole).unwrap().0;
            let has_come = (begin + at + has_come).min(whole.len());
            let (first, rest) = whole.split_at(has_come);
            let marked = [&mark(first, at)[..], rest].concat();
            let (begin, size) = header(&marked).unwrap();
            prop_assert_eq!(marked.len(), begin + size);
            let payload = marked[begin..].iter().zip(mask.iter().cycle());
            let payload = payload.map(|(byte, mask)| byte ^ mask).collect::<Vec<_>>();
            let wanted = text.replacen('[', &format!("[\"{MARK}\","), 1);
            prop_assert_eq!(String::from_utf8(payload).unwrap(), wanted);
        }
    }
}
