//! The hostile clients. Each reconnects as soon as it is disconnected.

use std::{net::SocketAddr, time::Duration};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use crate::support::{
    raw::{BINARY, FIN, TEXT, frame, upgrade},
    token_of,
};

/// How one is hostile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Says much to a room of all hostile ones.
    Loud,
    /// Is in that room, and reads nothing.
    Silent,
    /// Is in that room, and reads two kilobytes a second.
    Slow,
    /// Is in that room, and never polls again.
    SilentPoller,
    /// Asks for page after page, and reads none; by a websocket, or by polling.
    Pager,
    PollingPager,
    /// Sends events as fast as it can, and waits for no answer.
    Flood,
    /// Enters and leaves a namespace as fast as it can.
    Connects,
    /// Asks for a namespace that is none, as fast as it can.
    RefusedConnects,
    /// Sends half a request, and nothing more.
    HalfOpen,
    /// Sends attachments deep inside of large objects.
    Deep,
    /// Comes with as many cookies as are let through, and does nothing.
    Cookies,
    /// Writes to users that nobody has heard of.
    Invents,
}

/// How hard they push. A debug build on a small machine is to have time for healthy clients, too.
#[derive(Debug, Clone, Copy)]
pub struct Force {
    /// How many there are for each one of [`KINDS`].
    pub times: usize,
    /// Pauses of those who send, in milliseconds.
    pause: u64,
    /// How large their messages are, in bytes.
    size: usize,
}

impl Force {
    pub const LIGHT: Self = Self { times: 1, pause: 500, size: 10_000 };
    pub const FULL: Self = Self { times: 3, pause: 10, size: 500_000 };

    async fn pause(self) {
        sleep(Duration::from_millis(self.pause)).await;
    }
}

/// How many of each there are.
pub const KINDS: &[(Kind, usize)] = &[
    (Kind::Loud, 4),
    (Kind::Silent, 30),
    (Kind::Slow, 20),
    (Kind::SilentPoller, 20),
    (Kind::Pager, 15),
    (Kind::PollingPager, 5),
    (Kind::Flood, 5),
    (Kind::Connects, 5),
    (Kind::RefusedConnects, 5),
    (Kind::HalfOpen, 50),
    (Kind::Deep, 5),
    (Kind::Cookies, 50),
    (Kind::Invents, 5),
];

/// How long one that does nothing holds on before it comes anew.
const HOLD: Duration = Duration::from_secs(12);

/// Gives the pagers something to ask for: some megabytes.
pub async fn prepare(address: SocketAddr) {
    let http = client();
    for n in 0..800 {
        let body = json!({
            "id": format!("00000000-0000-4000-8000-{n:012x}"), "clientId": "nobody", "clientName": "backend",
            "roomName": "pages", "messageType": "text", "message": "p".repeat(9000),
            "timestamp": "2024-05-01T12:00:00.000Z",
        });
        let url = format!("http://{address}/messages/broadcast");
        let answer = http.post(url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 201);
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap()
}

/// Is hostile for ever.
pub async fn live(kind: Kind, number: usize, address: SocketAddr, force: Force) {
    // Not all at the same moment.
    sleep(Duration::from_millis(7 * number as u64)).await;
    loop {
        // Disconnected or refused, it reconnects.
        let _ = Box::pin(one_life(kind, number, address, force)).await;
        sleep(Duration::from_millis(100)).await;
    }
}

async fn one_life(
    kind: Kind,
    number: usize,
    address: SocketAddr,
    force: Force,
) -> std::io::Result<()> {
    match kind {
        Kind::Loud => Box::pin(loud(address, number, force)).await,
        Kind::Silent => {
            let mut socket = enter(address, number).await?;
            say(&mut socket, "42[\"join-room\",\"flood\"]").await?;
            sleep(HOLD).await;
            Ok(())
        }
        Kind::Slow => slow(address, number).await,
        Kind::SilentPoller => polls(address, &["42[\"join-room\",\"flood\"]".to_owned()]).await,
        Kind::Pager => {
            let mut socket = enter(address, number).await?;
            for n in 0..100 {
                say(&mut socket, &page(n)).await?;
            }
            sleep(HOLD).await;
            Ok(())
        }
        Kind::PollingPager => polls(address, &(0..100).map(page).collect::<Vec<_>>()).await,
        Kind::Flood => {
            let event = format!(
                "42[\"message\",{{\"roomName\":\"own-{number}\",\"t\":\"{}\"}}]",
                "f".repeat(force.size / 25)
            );
            again(address, number, force, &[event]).await
        }
        Kind::Connects => {
            again(address, number, force, &["40/chat,".to_owned(), "41/chat,".to_owned()]).await
        }
        Kind::RefusedConnects => again(address, number, force, &["40/nowhere,".to_owned()]).await,
        Kind::HalfOpen => {
            let mut socket = TcpStream::connect(address).await?;
            socket
                .write_all(
                    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nX-Half",
                )
                .await?;
            sleep(HOLD).await;
            Ok(())
        }
        Kind::Deep => deep(address, number, force).await,
        Kind::Cookies => cookies(address).await,
        Kind::Invents => invents(address, number, force).await,
    }
}

/// A websocket whose client is let in, sooner or later: its answer is not read.
async fn enter(address: SocketAddr, number: usize) -> std::io::Result<TcpStream> {
    let mut socket = open(address, &upgrade("EIO=4&transport=websocket")).await?;
    let token = json!({"token": token_of(&format!("hostile-{number}"))});
    say(&mut socket, &format!("40{token}")).await?;
    Ok(socket)
}

/// Sends a request and takes the head of its answer.
async fn open(address: SocketAddr, request: &[u8]) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(8 * 1024)?;
    let mut socket = socket.connect(address).await?;
    socket.write_all(request).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    if head.starts_with(b"HTTP/1.1 101") {
        return Ok(socket);
    }
    Err(std::io::Error::other("it was not let in"))
}

async fn say(socket: &mut TcpStream, text: &str) -> std::io::Result<()> {
    let written = timeout(HOLD, socket.write_all(&frame(FIN | TEXT, text.as_bytes()))).await;
    written.unwrap_or_else(|_| Err(std::io::Error::other("it is not read from")))
}

fn page(number: usize) -> String {
    format!("42{number}[\"syncMessages\",{{\"roomId\":\"pages\",\"offset\":0,\"limit\":1000}}]")
}

async fn loud(address: SocketAddr, number: usize, force: Force) -> std::io::Result<()> {
    let mut socket = enter(address, number).await?;
    let text = "l".repeat(force.size.min(30_000));
    loop {
        say(&mut socket, &format!("42[\"message\",{{\"roomName\":\"flood\",\"t\":\"{text}\"}}]"))
            .await?;
        // It reads, so that it stays.
        let mut answers = [0; 16 * 1024];
        while socket.try_read(&mut answers).is_ok_and(|read| read > 0) {}
        force.pause().await;
    }
}

async fn slow(address: SocketAddr, number: usize) -> std::io::Result<()> {
    let mut socket = enter(address, number).await?;
    say(&mut socket, "42[\"join-room\",\"flood\"]").await?;
    let mut few = [0; 512];
    while socket.read(&mut few).await? > 0 {
        sleep(Duration::from_millis(250)).await;
    }
    Ok(())
}

/// Enters by polling, sends these packets, and does not ask for what comes.
async fn polls(address: SocketAddr, packets: &[String]) -> std::io::Result<()> {
    let http = client();
    let url = format!("http://{address}/socket.io/?EIO=4&transport=polling");
    let other = std::io::Error::other::<reqwest::Error>;
    let text = http.get(&url).send().await.map_err(other)?.text().await.map_err(other)?;
    let open = serde_json::from_str::<serde_json::Value>(text.trim_start_matches('0'))?;
    let own = format!("{url}&sid={}", open["sid"].as_str().unwrap_or_default());
    let token = json!({"token": token_of("polls")});
    http.post(&own).body(format!("40{token}")).send().await.map_err(other)?;
    http.get(&own).send().await.map_err(other)?;
    http.post(&own).body(packets.join("\x1e")).send().await.map_err(other)?;
    sleep(HOLD).await;
    Ok(())
}

/// Sends the same packets again and again.
async fn again(
    address: SocketAddr,
    number: usize,
    force: Force,
    packets: &[String],
) -> std::io::Result<()> {
    let mut socket = enter(address, number).await?;
    let frames = packets.iter().flat_map(|packet| frame(FIN | TEXT, packet.as_bytes()));
    let frames = frames.collect::<Vec<_>>().repeat(10);
    loop {
        let written = timeout(HOLD, socket.write_all(&frames)).await;
        written.unwrap_or_else(|_| Err(std::io::Error::other("it is not read from")))?;
        // Too many, but not more than this machine can make.
        force.pause().await;
    }
}

async fn deep(address: SocketAddr, number: usize, force: Force) -> std::io::Result<()> {
    let mut socket = enter(address, number).await?;
    let attachment = "{\"_placeholder\":true,\"num\":0}";
    loop {
        let (open, close) = ("[".repeat(60), "]".repeat(60));
        let wide = vec!["{\"a\":[1,2,3]}"; force.size / 14].join(",");
        let event = format!(
            "451-[\"message\",{{\"roomName\":\"deep\",\"d\":{open}{attachment},{wide}{close}}}]"
        );
        say(&mut socket, &event).await?;
        socket.write_all(&frame(FIN | BINARY, b"attachment")).await?;
        sleep(Duration::from_millis(500)).await;
    }
}

async fn cookies(address: SocketAddr) -> std::io::Result<()> {
    let request = String::from_utf8(upgrade("EIO=4&transport=websocket")).unwrap();
    let cookie = format!("Cookie: c={}\r\n\r\n", "c".repeat(12_000));
    let request = format!("{}\r\n{cookie}", request.trim_end());
    let socket = open(address, request.as_bytes()).await?;
    sleep(HOLD).await;
    drop(socket);
    Ok(())
}

async fn invents(address: SocketAddr, number: usize, force: Force) -> std::io::Result<()> {
    let mut socket = enter(address, number).await?;
    for n in 0.. {
        let message = json!({"targetUserId": format!("invented-{number}-{n}"), "message": "i".repeat(20_000)});
        say(&mut socket, &format!("42{}", json!(["private-message", message]))).await?;
        force.pause().await;
        let mut answers = [0; 16 * 1024];
        while socket.try_read(&mut answers).is_ok_and(|read| read > 0) {}
    }
    Ok(())
}
