//! A Socket.IO client (Engine.IO 4) over a websocket, small enough to see through.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json, value::RawValue};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};

/// How long anything may take; a test that waits for longer has failed.
const DEADLINE: Duration = Duration::from_secs(10);

/// A client that is about to connect.
pub struct Connecting {
    address: SocketAddr,
    namespace: String,
    query: String,
    auth: Value,
    headers: Vec<(&'static str, String)>,
}

impl Connecting {
    /// To `/` of the server at this address.
    pub fn to(address: SocketAddr) -> Self {
        Self {
            address,
            namespace: "/".into(),
            query: String::new(),
            auth: json!({}),
            headers: Vec::new(),
        }
    }

    /// To this namespace.
    pub fn namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// With this `auth` object.
    pub fn auth(mut self, auth: Value) -> Self {
        self.auth = auth;
        self
    }

    /// With a parameter in the query.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query = format!("{}&{name}={value}", self.query);
        self
    }

    /// With a header on the upgrade.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Connects, and waits for the server's welcome.
    pub async fn join(self) -> TestClient {
        let mut client = self.knock().await.unwrap_or_else(|refusal| panic!("refused: {refusal}"));
        let welcome = client.next("connected").await;
        assert_eq!(welcome["clientId"], client.id);
        client
    }

    /// Connects; the message of the server's `connect_error` where it does not let the client in.
    pub async fn knock(self) -> Result<TestClient, Value> {
        let mut client = self.open().await.unwrap();
        let auth = std::mem::take(&mut client.auth);
        client.write(&client.packet('0', &auth.to_string())).await;
        loop {
            let frame = client.read().await.expect("the server closed the connection");
            let Some(packet) = frame.strip_prefix('4') else { continue };
            let (kind, _, data) = take_apart(packet);
            match kind {
                '0' => {
                    let session: Value = serde_json::from_str(data).unwrap();
                    session["sid"].as_str().unwrap().clone_into(&mut client.id);
                    return Ok(client);
                }
                '4' => return Err(serde_json::from_str::<Value>(data).unwrap()["message"].clone()),
                _ => {}
            }
        }
    }

    /// Opens the websocket; the HTTP status of the server's answer where it does not.
    pub async fn open(self) -> Result<TestClient, u16> {
        let url =
            format!("ws://{}/socket.io/?EIO=4&transport=websocket{}", self.address, self.query);
        let mut request = url.into_client_request().unwrap();
        for (name, value) in self.headers {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let connected = tokio::time::timeout(DEADLINE, connect_async(request)).await.unwrap();
        let socket = match connected {
            Ok((socket, _)) => socket,
            Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => {
                return Err(answer.status().as_u16());
            }
            Err(error) => panic!("{error}"),
        };
        let mut client = TestClient {
            id: String::new(),
            namespace: self.namespace,
            auth: self.auth,
            socket,
            events: VecDeque::new(),
            acks: Vec::new(),
            asked: 0,
        };
        let hello = client.read().await.expect("the server closed the connection");
        assert!(hello.starts_with("0{"), "{hello}");
        Ok(client)
    }
}

/// An event that has come.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// Its one argument.
    pub data: Value,
    /// The argument's text, to the letter.
    pub text: String,
}

/// A client of one namespace.
pub struct TestClient {
    /// Its socket id.
    pub id: String,
    namespace: String,
    auth: Value,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// What has come and nobody has asked for yet.
    events: VecDeque<Event>,
    acks: Vec<(u64, Value)>,
    asked: u64,
}

impl TestClient {
    /// Sends an event.
    pub async fn emit(&mut self, event: &str, data: Value) {
        self.write(&self.packet('2', &json!([event, data]).to_string())).await;
    }

    /// Sends an event whose argument is this text.
    pub async fn emit_text(&mut self, event: &str, data: &str) {
        self.write(&self.packet('2', &format!("[{},{data}]", json!(event)))).await;
    }

    /// Sends an event and waits for its ack.
    pub async fn ask(&mut self, event: &str, data: Value) -> Value {
        self.asked += 1;
        let id = self.asked;
        self.write(&self.packet('2', &format!("{id}{}", json!([event, data])))).await;
        loop {
            if let Some(at) = self.acks.iter().position(|(acknowledged, _)| *acknowledged == id) {
                return self.acks.swap_remove(at).1;
            }
            assert!(
                self.receive().await,
                "the server closed the connection before the ack of {event}"
            );
        }
    }

    /// Joins a room.
    pub async fn join(&mut self, room: &str) {
        let ack = self.ask("join-room", json!({"roomName": room})).await;
        assert_eq!(ack["success"], true, "{ack}");
    }

    /// Says who it is, on a server without authentication.
    pub async fn authenticate(&mut self, user: &str) {
        let ack = self.ask("authenticate", json!({"userId": user})).await;
        assert_eq!(ack["success"], true, "{ack}");
    }

    /// The argument of the next event of this name, which may have come already. Others are kept.
    pub async fn next(&mut self, name: &str) -> Value {
        self.next_event(name).await.data
    }

    /// The next event of this name, which may have come already. Others are kept.
    pub async fn next_event(&mut self, name: &str) -> Event {
        loop {
            if let Some(at) = self.events.iter().position(|event| event.name == name) {
                return self.events.remove(at).unwrap();
            }
            assert!(self.receive().await, "the server closed the connection before {name}");
        }
    }

    /// Waits until everything has come that was sent to it until now.
    pub async fn settle(&mut self) {
        self.emit("ping", Value::Null).await;
        self.next("pong").await;
    }

    /// Everything of this name that was sent to it until now and that nobody has asked for.
    pub async fn all(&mut self, name: &str) -> Vec<Value> {
        self.settle().await;
        let events = self.events.iter().filter(|event| event.name == name);
        let found = events.map(|event| event.data.clone()).collect();
        self.events.retain(|event| event.name != name);
        found
    }

    /// Waits until the server has ended the connection to the namespace.
    pub async fn ended(mut self) {
        while self.receive().await {}
    }

    /// Leaves, as `socket.disconnect()` does.
    pub async fn disconnect(mut self) {
        self.write(&self.packet('1', "")).await;
        self.socket.close(None).await.unwrap();
    }

    /// Takes in one packet; false where the server has ended the connection.
    async fn receive(&mut self) -> bool {
        let Some(frame) = self.read().await else { return false };
        let Some(packet) = frame.strip_prefix('4') else { return true };
        let (kind, id, data) = take_apart(packet);
        match kind {
            '1' => return false,
            '2' => {
                let (name, argument): (String, &RawValue) = serde_json::from_str(data).unwrap();
                let data = serde_json::from_str(argument.get()).unwrap();
                self.events.push_back(Event { name, data, text: argument.get().to_owned() });
            }
            '3' => {
                let [data]: [Value; 1] = serde_json::from_str(data).unwrap();
                self.acks.push((id.unwrap(), data));
            }
            _ => panic!("unexpected packet {packet}"),
        }
        true
    }

    /// The next frame that is no heartbeat; `None` at the end.
    async fn read(&mut self) -> Option<String> {
        loop {
            let frame = tokio::time::timeout(DEADLINE, self.socket.next());
            let frame = frame.await.expect("nothing came for ten seconds");
            match frame {
                Some(Ok(Message::Text(text))) if text == "2" => self.write("3").await,
                Some(Ok(Message::Text(text))) if text == "1" => return None,
                Some(Ok(Message::Text(text))) => return Some(text.to_string()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    async fn write(&mut self, frame: &str) {
        self.socket.send(Message::text(frame)).await.unwrap();
    }

    fn packet(&self, kind: char, data: &str) -> String {
        match self.namespace.as_str() {
            "/" => format!("4{kind}{data}"),
            namespace => format!("4{kind}{namespace},{data}"),
        }
    }
}

/// A Socket.IO packet's kind, its ack id, and its data.
fn take_apart(packet: &str) -> (char, Option<u64>, &str) {
    let (kind, mut rest) = packet.split_at(1);
    if rest.starts_with('/') {
        rest = rest.split_once(',').map_or("", |(_, rest)| rest);
    }
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (id, data) = rest.split_at(digits);
    (kind.chars().next().unwrap(), id.parse().ok(), data)
}
