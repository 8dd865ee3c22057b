//! A reader's connection from its beginning to its end, by each transport.

use std::{net::SocketAddr, pin::pin, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use super::{proxy::Network, reader::Reader};

/// How long anything may take; a test that waits for longer has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// What separates packets in a body of polling.
const SEPARATOR: char = '\x1e';

type WebSocket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl Reader {
    /// Connects, and takes what comes until the connection ends, or this was all. `None` where it has ended.
    pub(super) async fn connect(&mut self, network: &Network) -> Option<()> {
        let way = network.way(&mut self.random);
        match self.random.index(4) {
            0 => self.by_polling(way, false).await,
            1 => self.by_polling(way, true).await,
            _ => self.by_websocket(way).await,
        }
    }

    async fn by_websocket(&mut self, way: SocketAddr) -> Option<()> {
        let mut socket = open(way, "").await?;
        socket.send(Message::text(self.hello())).await.ok()?;
        self.read(socket).await
    }

    async fn read(&mut self, mut socket: WebSocket) -> Option<()> {
        loop {
            let Message::Text(text) = within(socket.next()).await?.ok()? else { continue };
            for answer in self.take(text.as_str()) {
                // What has come before the end is still read.
                let _lost = socket.send(Message::text(answer)).await;
            }
            if self.is_done() {
                return Some(());
            }
        }
    }

    async fn by_polling(&mut self, way: SocketAddr, upgrades: bool) -> Option<()> {
        let http = self.http.clone();
        let url = format!("http://{way}/socket.io/?EIO=4&transport=polling");
        let opened: Value =
            serde_json::from_str(get(&http, &url).await?.strip_prefix('0')?).ok()?;
        let session = format!("&sid={}", opened["sid"].as_str()?);
        let url = format!("{url}{session}");
        post(&http, &url, self.hello()).await?;
        let mut is_probing = upgrades;
        let (mut probing, mut poll) = (pin!(probe(way, &session)), Box::pin(get(&http, &url)));
        loop {
            tokio::select! {
                text = &mut poll => {
                    let answers = self.take_all(&text?);
                    if self.is_done() {
                        return Some(());
                    }
                    if !answers.is_empty() {
                        post(&http, &url, answers.join(&SEPARATOR.to_string())).await?;
                    }
                    poll.set(get(&http, &url));
                }
                socket = &mut probing, if is_probing => {
                    is_probing = false;
                    let Some(mut socket) = socket else { continue };
                    // The last poll ends before the client says that it has upgraded.
                    let answers = self.take_all(&poll.await?);
                    for packet in ["5".to_owned()].into_iter().chain(answers) {
                        let _lost = socket.send(Message::text(packet)).await;
                    }
                    return self.read(socket).await;
                }
            }
        }
    }

    fn take_all(&mut self, body: &str) -> Vec<String> {
        body.split(SEPARATOR).flat_map(|packet| self.take(packet)).collect()
    }
}

/// Opens a websocket, for this session if there is one.
async fn open(way: SocketAddr, session: &str) -> Option<WebSocket> {
    let url = format!("ws://{way}/socket.io/?EIO=4&transport=websocket{session}");
    Some(within(connect_async(url)).await.ok()?.0)
}

/// Opens a websocket and probes it; `None` where it comes to nothing.
async fn probe(way: SocketAddr, session: &str) -> Option<WebSocket> {
    let mut socket = open(way, session).await?;
    socket.send(Message::text("2probe")).await.ok()?;
    let answer = within(socket.next()).await?.ok()?;
    (answer == Message::text("3probe")).then_some(socket)
}

/// The body of an answer; `None` if the connection breaks, or the session is over.
async fn get(http: &reqwest::Client, url: &str) -> Option<String> {
    let answer = within(http.get(url).send()).await.ok()?.error_for_status().ok()?;
    within(answer.text()).await.ok()
}

async fn post(http: &reqwest::Client, url: &str, packets: String) -> Option<()> {
    let answer = within(http.post(url).body(packets).send()).await.ok()?;
    answer.error_for_status().ok().map(drop)
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("nothing came")
}
