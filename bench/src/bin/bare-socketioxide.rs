//! socketioxide as its documentation shows it, with the rooms of roomcast's contract: what roomcast
//! adds to the library it runs on. Listens on 127.0.0.1 at `PORT`.

use std::{env, io};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post, serve::ListenerExt};
use serde_json::{Value, json};
use socketioxide::{
    SocketIo,
    extract::{AckSender, Data, SocketRef},
};

fn room(message: &Value) -> String {
    message["roomName"].as_str().unwrap_or_default().to_owned()
}

// What cannot be sent has nobody left to hear of it.
fn connected(socket: &SocketRef) {
    let id = socket.id.to_string();
    let text = "Connected to WebSocket server";
    let _ = socket.emit("connected", &json!({"message": text, "connectionId": id, "clientId": id}));
    socket.on("join-room", async |socket: SocketRef, Data(join): Data<Value>, ack: AckSender| {
        let room = room(&join);
        let id = socket.id.to_string();
        socket.join(room.clone());
        let joined = json!({"success": true, "clientId": id, "roomName": room});
        let _ = socket.emit("room-joined", &joined);
        let _ = socket
            .to(room.clone())
            .emit("user-joined", &json!({"socketId": id, "room": room}))
            .await;
        let _ = ack.send(&joined);
    });
    socket.on("message", async |socket: SocketRef, io: SocketIo, Data(message): Data<Value>| {
        let room = room(&message);
        let _ = if message["replyToSender"] == true {
            io.to(room).emit("message-reply", &message).await
        } else {
            socket.to(room).emit("message-reply", &message).await
        };
    });
}

async fn broadcast(
    State(io): State<SocketIo>,
    Json(message): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let _ = io.to(room(&message)).emit("message-reply", &message).await;
    (StatusCode::CREATED, Json(message))
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let port = env::var("PORT").unwrap_or_default();
    let port: u16 = port.parse().map_err(|_| io::Error::other("PORT is no port"))?;
    let (layer, io) = SocketIo::builder().build_layer();
    io.ns("/", async |socket: SocketRef| connected(&socket));
    let app =
        Router::new().route("/messages/broadcast", post(broadcast)).with_state(io).layer(layer);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await
}
