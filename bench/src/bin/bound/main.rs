//! What the kernel asks for: a server that does nothing but read, find the room, and write. It speaks
//! just enough of Socket.IO for the load generator, sends no pings and checks nothing.
//!
//! `bound plain` writes every delivery by itself as soon as it is there; `bound batched` collects,
//! per socket, all that arrived together and writes it at once. Listens on 127.0.0.1 at `PORT`.

use std::{env, io, process::ExitCode, rc::Rc};

use base64::{Engine, prelude::BASE64_STANDARD};
use memchr::memmem;
use roomcast_bench::{
    frame::{self, Frames},
    receive::receive,
    text,
};
use sha1::{Digest, Sha1};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    task::{LocalSet, spawn_local, yield_now},
};

mod hub;

use hub::{Hub, Member};

/// How much is read of one connection before others get their turn.
const CHUNK: usize = 16 << 10;

fn main() -> ExitCode {
    let batched = match env::args().nth(1).as_deref() {
        Some("plain") => false,
        Some("batched") => true,
        _ => {
            eprintln!("usage: PORT=N bound plain|batched");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| LocalSet::new().block_on(&runtime, serve(batched))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bound: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(batched: bool) -> io::Result<()> {
    let port = env::var("PORT").unwrap_or_default();
    let port: u16 = port.parse().map_err(|_| io::Error::other("PORT is no port"))?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let hub = Hub::new(batched);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let hub = hub.clone();
        spawn_local(async move {
            // A client that goes is none of the bound's business.
            let _ = connection(stream, &hub).await;
        });
    }
}

/// HTTP requests, until one of them is the upgrade.
async fn connection(mut stream: TcpStream, hub: &Rc<Hub>) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(2048);
    loop {
        let Some(head) = memmem::find(&buffer, b"\r\n\r\n").map(|end| end + 4) else {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            continue;
        };
        if buffer.starts_with(b"GET /socket.io/") {
            let key = header(&buffer[..head], "sec-websocket-key").unwrap_or_default();
            let accept = BASE64_STANDARD.encode(
                Sha1::new()
                    .chain_update(key)
                    .chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
                    .finalize(),
            );
            return websocket(stream, hub, &accept, buffer.split_off(head)).await;
        }
        let length = header(&buffer[..head], "content-length");
        let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
        if buffer.len() < head + length {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            continue;
        }
        let body = &buffer[head..head + length];
        hub.publish(body, None);
        let mut answer = format!(
            "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        )
        .into_bytes();
        answer.extend_from_slice(body);
        stream.write_all(&answer).await?;
        buffer.drain(..head + length);
    }
}

fn header<'a>(head: &'a [u8], wanted: &str) -> Option<&'a str> {
    str::from_utf8(head).ok()?.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(wanted).then(|| value.trim())
    })
}

async fn websocket(
    mut stream: TcpStream,
    hub: &Rc<Hub>,
    accept: &str,
    mut early: Vec<u8>,
) -> io::Result<()> {
    let mut opening = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes();
    opening.extend(frame::of_server(
        frame::TEXT,
        br#"0{"sid":"bound","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#,
    ));
    stream.write_all(&opening).await?;
    let (read, write) = stream.into_split();
    let member = Member::new(write);
    let mut frames = Frames::default();
    frames.feed(&mut early, |_, packet| take(hub, &member, packet))?;
    let ended = tokio::select! {
        ended = packets(read, &mut frames, hub, &member) => ended,
        () = member.dropped() => Ok(()),
    };
    hub.leave(&member);
    ended
}

async fn packets(
    mut read: OwnedReadHalf,
    frames: &mut Frames,
    hub: &Rc<Hub>,
    member: &Rc<Member>,
) -> io::Result<()> {
    loop {
        receive(&mut read, frames, CHUNK, |_, packet| take(hub, member, packet)).await?;
        // The others' turn.
        yield_now().await;
    }
}

/// Does what a packet of a client asks for.
fn take(hub: &Rc<Hub>, member: &Rc<Member>, packet: &[u8]) {
    if let Some(object) = packet.strip_prefix(text::MESSAGE) {
        let object = object.strip_suffix(b"]").unwrap_or(object);
        let replied = memmem::find(object, b"\"replyToSender\":true").is_some();
        hub.publish(object, if replied { None } else { Some(member) });
    } else if let Some(object) = packet.strip_prefix(text::JOIN) {
        if let Some(room) = text::room(object) {
            hub.join(room, member);
            let ack = frame::of_server(frame::TEXT, br#"430[{"success":true}]"#);
            hub.send(member, &ack.into());
        }
    } else if packet.starts_with(b"40") {
        let answer = frame::of_server(frame::TEXT, br#"40{"sid":"bound"}"#);
        hub.send(member, &answer.into());
    }
}
