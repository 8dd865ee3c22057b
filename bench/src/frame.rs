//! Websocket frames (RFC 6455), cut out of a byte stream where they lie.

use std::io;

/// The opcode of a text frame.
pub const TEXT: u8 = 0x1;
/// The opcode of a close frame.
pub const CLOSE: u8 = 0x8;

/// The length that stands for 16 bits of length behind it.
const EXTENDED_16: u8 = 0x7e;
/// The length that stands for 64 bits of length behind it.
const EXTENDED_64: u8 = 0x7f;

/// Longer frames are taken for a fault of the stream; the benchmark sends nothing near it.
const MAX_PAYLOAD: usize = 16 << 20;

/// Finds the frames of one direction of a connection.
///
/// A frame that lies whole in the bytes given is handed on in place; only one that is cut off by
/// their end is copied, to wait for the rest.
#[derive(Default)]
pub struct Frames {
    rest: Vec<u8>,
}

impl Frames {
    /// Takes the next bytes, and calls `each` with the opcode and the unmasked payload of every
    /// frame that they complete.
    ///
    /// # Errors
    /// When the bytes cannot be frames, or are frames that no server of the benchmark sends.
    pub fn feed(&mut self, bytes: &mut [u8], mut each: impl FnMut(u8, &[u8])) -> io::Result<()> {
        if self.rest.is_empty() {
            let walked = walk(bytes, &mut each)?;
            self.rest.extend_from_slice(&bytes[walked..]);
        } else {
            self.rest.extend_from_slice(bytes);
            let walked = walk(&mut self.rest, &mut each)?;
            self.rest.drain(..walked);
        }
        Ok(())
    }
}

/// Hands on the whole frames at the start of `bytes`; how many bytes they take.
fn walk(bytes: &mut [u8], each: &mut impl FnMut(u8, &[u8])) -> io::Result<usize> {
    let mut walked = 0;
    while let Some(header) = Header::read(&bytes[walked..])? {
        let start = walked + header.length;
        let end = start + header.payload;
        if bytes.len() < end {
            break;
        }
        let payload = &mut bytes[start..end];
        if let Some(key) = header.mask {
            mask(payload, key);
        }
        each(header.opcode, payload);
        walked = end;
    }
    Ok(walked)
}

struct Header {
    opcode: u8,
    mask: Option<[u8; 4]>,
    /// The bytes of the header itself.
    length: usize,
    /// The bytes of the payload.
    payload: usize,
}

impl Header {
    /// The header at the start of `bytes`, once they hold all of it.
    fn read(bytes: &[u8]) -> io::Result<Option<Self>> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        if first & 0xf0 != 0x80 {
            return Err(io::Error::other(format!(
                "a frame begins with {first:#04x}: fragments and extensions were not asked for"
            )));
        }
        let (payload, extended) = match second & 0x7f {
            EXTENDED_16 => match rest.first_chunk::<2>() {
                Some(length) => (u64::from(u16::from_be_bytes(*length)), 2),
                None => return Ok(None),
            },
            EXTENDED_64 => match rest.first_chunk::<8>() {
                Some(length) => (u64::from_be_bytes(*length), 8),
                None => return Ok(None),
            },
            short => (u64::from(short), 0),
        };
        let payload = usize::try_from(payload)
            .ok()
            .filter(|payload| *payload <= MAX_PAYLOAD)
            .ok_or_else(|| io::Error::other(format!("a frame of {payload} bytes")))?;
        let mut length = 2 + extended;
        let mask = if second & 0x80 == 0 {
            None
        } else {
            let Some(key) = rest[extended..].first_chunk::<4>() else { return Ok(None) };
            length += 4;
            Some(*key)
        };
        Ok(Some(Self { opcode: first & 0x0f, mask, length, payload }))
    }
}

/// Masks or unmasks `payload`, which is the same.
fn mask(payload: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut eights = payload.chunks_exact_mut(8);
    for eight in &mut eights {
        let mut word = [0; 8];
        word.copy_from_slice(eight);
        eight.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
    }
    for (byte, key) in eights.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// A frame as a server sends it.
pub fn of_server(opcode: u8, payload: &[u8]) -> Vec<u8> {
    encode(opcode, payload, None)
}

/// A frame as a client sends it, masked with a key that is not zero: some servers spare themselves
/// the unmasking then.
pub fn of_client(opcode: u8, payload: &[u8]) -> Vec<u8> {
    encode(opcode, payload, Some([0x37, 0xfa, 0x21, 0x3d]))
}

fn encode(opcode: u8, payload: &[u8], key: Option<[u8; 4]>) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    let masked = if key.is_some() { 0x80 } else { 0 };
    frame.push(0x80 | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..126), _) => frame.push(masked | length),
        (_, Ok(length)) => {
            frame.push(masked | EXTENDED_16);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            frame.push(masked | EXTENDED_64);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(key.as_ref().map_or(&[], |key| key.as_slice()));
    let start = frame.len();
    frame.extend_from_slice(payload);
    if let Some(key) = key {
        mask(&mut frame[start..], key);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads() -> Vec<Vec<u8>> {
        [0, 1, 7, 8, 9, 125, 126, 300, 65_535, 65_536]
            .iter()
            .map(|length| (0..*length).map(|i: usize| u8::try_from(i % 251).unwrap()).collect())
            .collect()
    }

    fn read_back(encode: fn(u8, &[u8]) -> Vec<u8>, step: usize) -> Vec<Vec<u8>> {
        let mut stream: Vec<u8> = payloads().iter().flat_map(|p| encode(TEXT, p)).collect();
        let mut frames = Frames::default();
        let mut read = Vec::new();
        for part in stream.chunks_mut(step) {
            frames
                .feed(part, |opcode, payload| {
                    assert_eq!(opcode, TEXT);
                    read.push(payload.to_vec());
                })
                .unwrap();
        }
        read
    }

    #[test]
    fn frames_survive_any_cut() {
        for step in [1, 2, 3, 5, 13, 127, 4096, usize::MAX] {
            assert_eq!(read_back(of_server, step), payloads(), "server, parts of {step}");
            assert_eq!(read_back(of_client, step), payloads(), "client, parts of {step}");
        }
    }

    #[test]
    fn a_client_frame_is_masked() {
        let frame = of_client(TEXT, b"hello world");
        assert_eq!(frame[1], 0x80 + 11);
        assert!(memchr::memmem::find(&frame, b"hello").is_none());
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for first in [0x01, 0xc1] {
            assert!(Frames::default().feed(&mut [first, 0], |_, _| {}).is_err());
        }
        let mut huge = [0x81, 127, 0xff, 0, 0, 0, 0, 0, 0, 0];
        assert!(Frames::default().feed(&mut huge, |_, _| {}).is_err());
    }
}
