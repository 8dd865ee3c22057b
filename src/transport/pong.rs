//! Finds a client's answers to pings among its frames.

/// How an Engine.IO pong begins, or another frame as short: a whole text message of one byte, masked.
const SHORT_TEXT: [u8; 2] = [0x81, 0x81];

/// The first byte of a WebSocket's pong.
const WEBSOCKET_PONG: u8 = 0x8a;

/// The size of a mask.
const MASK: usize = 4;

/// A client's answer to a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pong {
    /// An Engine.IO pong.
    EngineIo,
    /// A WebSocket pong, with this number.
    WebSocket(u64),
}

/// What the next frame is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A pong, with the size of its frame.
    Pong(Pong, usize),
    /// Perhaps a pong: the rest of it has not come yet.
    Unknown,
    /// Something else.
    Else,
}

/// Classifies the frame that begins here.
pub(super) fn next(bytes: &[u8]) -> Next {
    if !may_be_pong(bytes) {
        return Next::Else;
    }
    let Some(&second) = bytes.get(1) else { return Next::Unknown };
    let size = usize::from(second & 0x7f);
    // A client's frames are masked; the library rejects others.
    if second & 0x80 == 0 || size > 125 {
        return Next::Else;
    }
    let end = SHORT_TEXT.len() + MASK + size;
    let Some(frame) = bytes.get(..end) else { return Next::Unknown };
    let (mask, payload) = frame[SHORT_TEXT.len()..].split_at(MASK);
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    let payload = payload.collect::<Vec<_>>();
    if bytes[0] == WEBSOCKET_PONG {
        let number = <[u8; 8]>::try_from(payload).map(u64::from_be_bytes);
        return number.map_or(Next::Else, |number| Next::Pong(Pong::WebSocket(number), end));
    }
    if payload == b"3" { Next::Pong(Pong::EngineIo, end) } else { Next::Else }
}

/// Whether a frame that begins with these bytes may be a pong.
pub(super) fn may_be_pong(bytes: &[u8]) -> bool {
    bytes.starts_with(&[WEBSOCKET_PONG]) || SHORT_TEXT.starts_with(&bytes[..bytes.len().min(2)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::inbound::PONG;

    #[test]
    fn a_pong_is_known_by_all_of_it() {
        for size in 1..PONG.len() {
            assert_eq!(next(&PONG[..size]), Next::Unknown, "{size}");
        }
        let masked = |payload: &[u8], first: u8| {
            let mask = [9, 0x81, 3, 0xff];
            let size = 0x80 | u8::try_from(payload.len()).unwrap();
            let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
            [first, size].into_iter().chain(mask).chain(payload).collect::<Vec<_>>()
        };
        assert_eq!(next(&masked(b"3", 0x81)), Next::Pong(Pong::EngineIo, 7));
        assert_eq!(next(&masked(b"2", 0x81)), Next::Else);
        assert_eq!(next(&masked(b"33", 0x81)), Next::Else);
        assert_eq!(next(&masked(b"3", 0x01)), Next::Else, "a fragment");
        let number = masked(&[0, 0, 0, 0, 0, 0, 1, 2], 0x8a);
        assert_eq!(next(&number), Next::Pong(Pong::WebSocket(258), 14));
        assert_eq!(next(&number[..13]), Next::Unknown);
        assert_eq!(next(&masked(b"", 0x8a)), Next::Else, "unasked, as a sign of life");
        assert_eq!(next(&[0x8a, 8, 0]), Next::Else, "not masked");
    }
}
