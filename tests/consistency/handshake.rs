//! How a connection begins.

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

/// A websocket whose client is let in, and the server's name for it.
pub async fn handshake(
    address: SocketAddr,
    token: &str,
) -> Option<(WebSocketStream<TcpStream>, String)> {
    let socket = TcpSocket::new_v4().unwrap();
    // Small, so that what a client does not read stays with the server.
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let stream = socket.connect(address).await.ok()?;
    stream.set_nodelay(true).ok()?;
    // A connection that is dropped is reset.
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).ok()?;
    let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
    let (mut stream, _) = tokio_tungstenite::client_async(url, stream).await.ok()?;
    let connect = format!("40{}", json!({"token": token}));
    stream.send(Message::text(connect)).await.ok()?;
    loop {
        let Message::Text(text) = stream.next().await?.ok()? else { continue };
        if text == "2" {
            stream.send(Message::text("3")).await.ok()?;
        }
        if let Some(session) = text.strip_prefix("40") {
            let session = serde_json::from_str::<Value>(session).ok()?;
            return Some((stream, session["sid"].as_str()?.to_owned()));
        }
        if text.starts_with("44") {
            return None;
        }
    }
}
