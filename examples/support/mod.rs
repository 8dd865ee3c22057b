//! What the benchmarks have in common: servers in processes of their own, their CPU time, and clients.

#![allow(dead_code, reason = "each benchmark uses its own part")]

use std::{error::Error, ffi::OsStr, net::SocketAddr, process::Stdio, time::Duration};

use futures_util::{SinkExt, Stream, StreamExt};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error as SocketError, Message},
};

pub type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;
pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The CPU time of a process so far, from `/proc` (clock ticks are 10 ms on Linux).
pub fn cpu_of(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = fields.split_whitespace().skip(11).take(2);
    Duration::from_millis(ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
}

/// A process that ends with this.
pub struct Process(pub Child);

impl Process {
    /// Its CPU time so far.
    pub fn cpu(&self) -> Duration {
        cpu_of(self.0.id().unwrap_or(0))
    }
}

/// This benchmark itself, started as a server in a process of its own.
pub struct Server {
    pub process: Process,
    pub address: SocketAddr,
}

impl Server {
    /// Starts it with these arguments; it says on its standard output where it listens.
    pub async fn start<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Fallible<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().ok_or("the server has no output")?;
        let line = BufReader::new(output).lines().next_line().await?;
        let address = line.ok_or("the server did not start")?.parse()?;
        Ok(Self { process: Process(child), address })
    }

    /// A client of `/`.
    pub async fn connect(&self) -> Fallible<Socket> {
        let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", self.address);
        let (mut socket, _) = connect_async(url).await?;
        socket.send(Message::text("40")).await?;
        while !next(&mut socket).await?.starts_with("40") {}
        Ok(socket)
    }
}

/// The next packet.
pub async fn next(
    socket: &mut (impl Stream<Item = Result<Message, SocketError>> + Unpin),
) -> Fallible<String> {
    loop {
        match socket.next().await.ok_or("the server has closed the connection")?? {
            Message::Text(text) => return Ok(text.to_string()),
            Message::Close(_) => return Err("the server has closed the connection".into()),
            _ => {}
        }
    }
}
