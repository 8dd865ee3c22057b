//! The rules of [RFC 6455] for a client's frames, and the close codes that say which one a frame breaks, as
//! Node's server (`ws`) sends them. The library knows the rules, too, but closes without a code.
//!
//! [RFC 6455]: https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1

/// A frame breaks the protocol.
const PROTOCOL: u16 = 1002;
/// A text is not UTF-8.
const NOT_UTF8: u16 = 1007;
/// A message is too large.
const TOO_LARGE: u16 = 1009;

/// The greatest payload of a control frame.
const MAX_CONTROL: u64 = 125;
/// The opcode of a close frame.
const CLOSE: u8 = 8;

/// How much masked text is copied at once to be checked.
const CHUNK: usize = 256;

/// Checks the frames of a client one after the other.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// The opcode of the current frame.
    opcode: u8,
    /// The text message that is under way has begun in an earlier frame.
    is_text: bool,
    /// The size of the message, as far as its frames have begun.
    size: u64,
    utf8: Utf8,
    /// The payload of a close frame, as far as it has come.
    close: Vec<u8>,
}

impl Rules {
    /// Checks a frame's header. `fragmented`: a message has begun whose last frame has not.
    pub(super) fn header(
        &mut self,
        header: [u8; 2],
        size: u64,
        fragmented: bool,
        max_message: usize,
    ) -> Result<(), u16> {
        let [first, second] = header;
        let (is_last, opcode) = (first & 0x80 != 0, first & 0x0f);
        let is_allowed = match opcode {
            0 => fragmented,
            1 | 2 => !fragmented,
            8..=10 => is_last && size <= MAX_CONTROL && (opcode, size) != (CLOSE, 1),
            _ => false,
        };
        let (is_masked, is_extended) = (second & 0x80 != 0, first & 0x70 != 0);
        if !is_allowed || !is_masked || is_extended {
            return Err(PROTOCOL);
        }
        self.opcode = opcode;
        if opcode >= CLOSE {
            return Ok(());
        }
        if opcode > 0 {
            (self.is_text, self.size, self.utf8) = (opcode == 1, 0, Utf8::default());
        }
        self.size = self.size.saturating_add(size);
        if self.size > max_message as u64 { Err(TOO_LARGE) } else { Ok(()) }
    }

    /// Checks the next piece of the frame's payload, whose mask begins with the piece.
    pub(super) fn payload(&mut self, piece: &[u8], mask: [u8; 4]) -> Result<(), u16> {
        if self.opcode == CLOSE {
            self.close
                .extend(piece.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        } else if self.opcode < CLOSE && self.is_text && !self.utf8.add(piece, mask) {
            return Err(NOT_UTF8);
        }
        Ok(())
    }

    /// Checks the end of a frame.
    pub(super) fn end(&self, is_last: bool) -> Result<(), u16> {
        if self.opcode < CLOSE && is_last && self.is_text && !self.utf8.is_whole() {
            return Err(NOT_UTF8);
        }
        let Some((code, reason)) = self.close.split_first_chunk() else { return Ok(()) };
        if self.opcode != CLOSE {
            return Ok(());
        }
        match u16::from_be_bytes(*code) {
            1000..=1003 | 1007..=1014 | 3000..=4999 => {}
            _ => return Err(PROTOCOL),
        }
        str::from_utf8(reason).map(|_| ()).map_err(|_| NOT_UTF8)
    }
}

/// A text in pieces, of which the last character may be incomplete.
#[derive(Debug, Default)]
struct Utf8 {
    /// The bytes of the incomplete character.
    begun: [u8; 3],
    size: usize,
}

impl Utf8 {
    /// Takes the next piece; false if the text is not UTF-8.
    fn add(&mut self, piece: &[u8], mask: [u8; 4]) -> bool {
        if self.size == 0 && is_ascii(piece, mask) {
            return true;
        }
        let mut text = [0; CHUNK + 3];
        for (number, chunk) in piece.chunks(CHUNK).enumerate() {
            let size = self.size + chunk.len();
            text[..self.size].copy_from_slice(&self.begun[..self.size]);
            // A chunk's size is a multiple of the mask's.
            debug_assert_eq!(number * CHUNK % mask.len(), 0);
            for ((to, from), mask) in
                text[self.size..].iter_mut().zip(chunk).zip(mask.iter().cycle())
            {
                *to = from ^ mask;
            }
            if !self.check(&text[..size]) {
                return false;
            }
        }
        true
    }

    fn check(&mut self, text: &[u8]) -> bool {
        self.size = 0;
        let Err(error) = str::from_utf8(text) else { return true };
        if error.error_len().is_some() {
            return false;
        }
        let rest = &text[error.valid_up_to()..];
        self.begun[..rest.len()].copy_from_slice(rest);
        self.size = rest.len();
        true
    }

    fn is_whole(&self) -> bool {
        self.size == 0
    }
}

/// Whether a masked piece is ASCII. Most are, and this takes 16 bytes or more at a time.
fn is_ascii(piece: &[u8], mask: [u8; 4]) -> bool {
    let (words, rest) = piece.as_chunks();
    let wide = u32::from_ne_bytes(mask);
    let any = words.iter().fold(0, |any, word| any | (u32::from_ne_bytes(*word) ^ wide));
    let rest = rest.iter().zip(mask).fold(0, |any, (byte, mask)| any | (byte ^ mask));
    any & 0x8080_8080 == 0 && rest & 0x80 == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_breaks_a_rule_or_none() {
        for (header, size, fragmented, wanted) in [
            ([0x81, 0x85], 5, false, Ok(())),
            ([0x02, 0x85], 5, false, Ok(())),
            ([0x80, 0x80], 0, true, Ok(())),
            ([0x89, 0xfd], 125, true, Ok(())),
            ([0x88, 0x82], 2, false, Ok(())),
            ([0x81, 0x05], 5, false, Err(1002)),
            ([0xc1, 0x85], 5, false, Err(1002)),
            ([0x91, 0x85], 5, false, Err(1002)),
            ([0x83, 0x85], 5, false, Err(1002)),
            ([0x8b, 0x85], 5, false, Err(1002)),
            ([0x80, 0x85], 5, false, Err(1002)),
            ([0x81, 0x85], 5, true, Err(1002)),
            ([0x09, 0x85], 5, false, Err(1002)),
            ([0x89, 0xfe], 126, false, Err(1002)),
            ([0x88, 0x81], 1, false, Err(1002)),
            ([0x81, 0xfe], 1001, false, Err(1009)),
        ] {
            let result = Rules::default().header(header, size, fragmented, 1000);
            assert_eq!(result, wanted, "{header:?}");
        }
    }

    #[test]
    fn the_frames_of_a_message_are_counted_together() {
        let mut rules = Rules::default();
        assert_eq!(rules.header([0x02, 0xfe], 600, false, 1000), Ok(()));
        assert_eq!(rules.header([0x89, 0xfd], 125, true, 1000), Ok(()));
        assert_eq!(rules.header([0x00, 0xfe], 400, true, 1000), Ok(()));
        assert_eq!(rules.header([0x80, 0x81], 1, true, 1000), Err(1009));
        assert_eq!(rules.header([0x82, 0xfe], 1000, false, 1000), Ok(()));
    }

    #[test]
    fn a_close_says_why_or_nothing() {
        for (payload, wanted) in [
            (&b""[..], Ok(())),
            (b"\x03\xe8", Ok(())),
            (b"\x0f\xa0bye", Ok(())),
            (b"\x03\xe7", Err(1002)),
            (b"\x03\xed", Err(1002)),
            (b"\x13\x88", Err(1002)),
            (b"\x03\xe8\xff", Err(1007)),
        ] {
            let mut rules = Rules::default();
            let size = payload.len() as u64;
            rules.header([0x88, 0x80], size, false, 1000).unwrap();
            for byte in payload {
                rules.payload(&[*byte], [0; 4]).unwrap();
            }
            assert_eq!(rules.end(true), wanted, "{payload:?}");
        }
    }

    proptest! {
        #[test]
        fn text_is_checked_as_a_whole_however_it_comes(
            text in prop_oneof![
                "[a-zé€😀]{0,300}".prop_map(String::into_bytes),
                proptest::collection::vec(any::<u8>(), 0..20),
                ("[a-zé€😀]{0,300}", any::<u8>()).prop_map(|(text, byte)| {
                    let mut text = text.into_bytes();
                    text.push(byte);
                    text.extend(b"abc");
                    text
                }),
            ],
            step in 1_usize..300,
            mask: [u8; 4],
        ) {
            let mut rules = Rules::default();
            rules.header([0x81, 0x80], text.len() as u64, false, usize::MAX).unwrap();
            let masked = text.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
            let masked = masked.collect::<Vec<_>>();
            let mut result = Ok(());
            for (number, piece) in masked.chunks(step).enumerate() {
                let mut mask = mask;
                mask.rotate_left(number * step % 4);
                result = result.and_then(|()| rules.payload(piece, mask));
            }
            let result = result.and_then(|()| rules.end(true));
            prop_assert_eq!(result.is_ok(), std::str::from_utf8(&text).is_ok());
        }
    }
}
