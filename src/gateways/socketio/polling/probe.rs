//! The probe on a websocket that a session upgrades to: `2probe`, `3probe`, and `5`.

use std::{io::ErrorKind, pin::pin, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{net::TcpStream, time::timeout};

use crate::transport::{Raw, Session, Upgrading};

/// The server's `3probe` as a frame.
const PROBED: &[u8] = b"\x81\x063probe";

/// How often a waiting poll is answered with nothing, so that the client can stop polling. A client that never gets
/// the `3probe` polls again each time: at this pace that costs little.
const RELEASE: Duration = Duration::from_millis(100);

/// How much is read at once.
const CHUNK: usize = 1024;

/// The size of the longest frame here, with its header and its mask.
const LONGEST: usize = 2 + 4 + 125;

/// Answers the probe and waits for the client's `5`, which says that it no longer polls. `None` if the client
/// sends anything else, or nothing.
pub(super) async fn probe(session: &Session, raw: &mut Raw) -> Option<Upgrading> {
    let mut read = BytesMut::from(raw.read.split_off(0));
    if message(&raw.tcp, &mut read).await?.as_ref() != b"2probe" {
        return None;
    }
    let upgrading = session.upgrade()?;
    write(&raw.tcp, PROBED).await?;
    if confirmation(&upgrading, &raw.tcp, &mut read).await?.as_ref() != b"5" {
        return None;
    }
    // Bytes that came after it.
    raw.read = read.freeze();
    Some(upgrading)
}

/// The message behind the probe. While the client polls, its polls are answered.
async fn confirmation(
    upgrading: &Upgrading,
    tcp: &TcpStream,
    read: &mut BytesMut,
) -> Option<Bytes> {
    let mut confirmation = pin!(message(tcp, read));
    loop {
        if let Ok(message) = timeout(RELEASE, &mut confirmation).await {
            return message;
        }
        upgrading.release_poll();
    }
}

/// The next message, if it is a short text in one frame. Pings and pongs may come before it.
async fn message(tcp: &TcpStream, read: &mut BytesMut) -> Option<Bytes> {
    loop {
        while let Some((opcode, payload)) = take_frame(read)? {
            match opcode {
                1 => return Some(payload),
                9 | 10 => {}
                _ => return None,
            }
        }
        let mut chunk = [0; CHUNK];
        tcp.readable().await.ok()?;
        match tcp.try_read(&mut chunk) {
            Ok(0) => return None,
            Ok(size) => read.extend_from_slice(&chunk[..size]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
}

/// Takes out the next frame, if it is complete; `None` if no such frame is allowed here.
#[allow(clippy::option_option, reason = "it has not come, or it is not what may come")]
fn take_frame(read: &mut BytesMut) -> Option<Option<(u8, Bytes)>> {
    let (Some(&first), Some(&second)) = (read.first(), read.get(1)) else { return Some(None) };
    let size = usize::from(second & 0x7f);
    if first & 0xf0 != 0x80 || second & 0x80 == 0 || size > 125 {
        return None;
    }
    let end = LONGEST - 125 + size;
    if read.len() < end {
        return Some(None);
    }
    let mut frame = read.split_to(end);
    frame.advance(2);
    let mask = frame.split_to(4);
    for (byte, mask) in frame.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Some(Some((first & 0x0f, frame.freeze())))
}

async fn write(tcp: &TcpStream, mut bytes: &[u8]) -> Option<()> {
    while !bytes.is_empty() {
        tcp.writable().await.ok()?;
        match tcp.try_write(bytes) {
            Ok(size) => bytes = &bytes[size..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_out_one_by_one() {
        let mut read =
            BytesMut::from(&b"\x81\x86\x01\x02\x03\x043rqkcg\x81\x81\0\0\0\x005\x82"[..]);
        for size in 0..12 {
            assert_eq!(take_frame(&mut BytesMut::from(&read[..size])), Some(None), "{size}");
        }
        assert_eq!(take_frame(&mut read), Some(Some((1, Bytes::from_static(b"2probe")))));
        assert_eq!(take_frame(&mut read), Some(Some((1, Bytes::from_static(b"5")))));
        assert_eq!(take_frame(&mut read), Some(None));
        assert_eq!(&read[..], b"\x82");
        for wrong in [&b"\x81\x05"[..], b"\x01\x85", b"\x81\xfe", b"\xc1\x85"] {
            assert_eq!(take_frame(&mut BytesMut::from(wrong)), None, "{wrong:?}");
        }
    }
}
