//! A Socket.IO client (Engine.IO 4) over a websocket, small enough to see through.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use roomcast::{broker::survey::Survey, gateways::app::App};
use serde_json::{Value, json, value::RawValue};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Message, client::IntoClientRequest},
};

/// How long anything may take; a test that waits for longer has failed.
const DEADLINE: Duration = Duration::from_secs(10);

/// A client that is about to connect.
pub struct Connecting {
    address: SocketAddr,
    namespace: String,
    protocol: u8,
    query: String,
    auth: Value,
    headers: Vec<(&'static str, String)>,
    nodes: Vec<App>,
}

impl Connecting {
    /// To `/` of the server at this address.
    pub fn to(address: SocketAddr) -> Self {
        Self {
            address,
            namespace: "/".into(),
            protocol: 4,
            query: String::new(),
            auth: json!({}),
            headers: Vec::new(),
            nodes: Vec::new(),
        }
    }

    /// Of a server that these nodes are, in this process.
    pub fn settling(mut self, nodes: Vec<App>) -> Self {
        self.nodes = nodes;
        self
    }

    /// To this namespace.
    pub fn namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// With Engine.IO 3, as socket.io-client 2 speaks it.
    pub fn engine_3(mut self) -> Self {
        self.protocol = 3;
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
        self.knock_for_all().await.map_err(|refusal| refusal["message"].clone())
    }

    /// Connects; the server's `connect_error` where it does not let the client in.
    pub async fn knock_for_all(self) -> Result<TestClient, Value> {
        let mut client = self.open().await.unwrap();
        let auth = std::mem::take(&mut client.auth);
        client.write(&client.packet("0", &auth.to_string())).await;
        loop {
            let frame = client.read().await.expect("the server closed the connection");
            let Some(packet) = frame.strip_prefix('4') else { continue };
            let (kind, _, data) = take_apart(packet);
            match kind {
                '0' => {
                    let session: Value = serde_json::from_str(data).unwrap();
                    session["sid"].as_str().unwrap().clone_into(&mut client.id);
                    client.pid = session["pid"].as_str().map(str::to_owned);
                    return Ok(client);
                }
                '4' => return Err(serde_json::from_str::<Value>(data).unwrap()),
                _ => {}
            }
        }
    }

    /// Opens the websocket; the HTTP status of the server's answer where it does not.
    pub async fn open(self) -> Result<TestClient, u16> {
        let url = format!(
            "ws://{}/socket.io/?EIO={}&transport=websocket{}",
            self.address, self.protocol, self.query
        );
        let mut request = url.into_client_request().unwrap();
        for (name, value) in self.headers {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        // What it sends goes out at once, as with browsers and Node.
        let connecting = connect_async_with_config(request, None, true);
        let connected = tokio::time::timeout(DEADLINE, connecting).await.unwrap();
        let socket = match connected {
            Ok((socket, _)) => socket,
            Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => {
                return Err(answer.status().as_u16());
            }
            Err(error) => panic!("{error}"),
        };
        let mut client = TestClient {
            id: String::new(),
            pid: None,
            offset: None,
            namespace: self.namespace,
            auth: self.auth,
            socket,
            events: VecDeque::new(),
            acks: VecDeque::new(),
            asked: 0,
            unanswered: None,
            nodes: self.nodes,
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
    /// Its first argument.
    pub data: Value,
    /// All its arguments.
    pub arguments: Vec<Value>,
    /// The argument's text, to the letter.
    pub text: String,
    /// The binary attachments that its placeholders refer to.
    pub attachments: Vec<Vec<u8>>,
    /// The namespace that it came from.
    pub namespace: String,
    /// The number to acknowledge it with, where the server asks for that.
    pub ack: Option<u64>,
}

/// A client of one namespace.
pub struct TestClient {
    /// Its socket id.
    pub id: String,
    /// The secret by which it may come back, where connections may be recovered.
    pub pid: Option<String>,
    /// The newest offset that it has, as socket.io-client remembers it.
    pub offset: Option<String>,
    namespace: String,
    auth: Value,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// What has come and nobody has asked for yet.
    events: VecDeque<Event>,
    acks: VecDeque<(u64, Value)>,
    asked: u64,
    /// The pings that it has not answered, where it answers none.
    unanswered: Option<usize>,
    nodes: Vec<App>,
}

impl TestClient {
    /// From now on answers no ping of Engine.IO's.
    pub fn fall_silent(&mut self) {
        self.unanswered.get_or_insert(0);
    }

    /// Answers every ping that it has not answered, and those that follow.
    pub async fn speak(&mut self) {
        for _ in 0..self.unanswered.take().unwrap_or(0) {
            self.write("3").await;
        }
    }

    async fn answer_ping(&mut self) {
        match &mut self.unanswered {
            Some(unanswered) => *unanswered += 1,
            None => self.write("3").await,
        }
    }

    /// Sends an event.
    pub async fn emit(&mut self, event: &str, data: Value) {
        self.write(&self.packet("2", &json!([event, data]).to_string())).await;
    }

    /// Sends an event whose argument is this text.
    pub async fn emit_text(&mut self, event: &str, data: &str) {
        self.write(&self.packet("2", &format!("[{},{data}]", json!(event)))).await;
    }

    /// Sends an event whose argument is this text, with binary attachments for its placeholders.
    pub async fn emit_binary(&mut self, event: &str, data: &str, attachments: &[&[u8]]) {
        let kind = format!("5{}-", attachments.len());
        self.write(&self.packet(&kind, &format!("[{},{data}]", json!(event)))).await;
        for attachment in attachments {
            self.send_binary(attachment).await;
        }
    }

    /// Sends a text frame as it is.
    pub async fn send_frame(&mut self, frame: &str) {
        self.write(frame).await;
    }

    /// As [`send_frame`](Self::send_frame), where the server may have closed the connection.
    pub async fn try_send_frame(&mut self, frame: &str) {
        let _closed = self.socket.send(Message::text(frame)).await;
    }

    /// Sends a binary frame as it is.
    pub async fn send_binary(&mut self, bytes: &[u8]) {
        self.socket.send(Message::binary(bytes.to_vec())).await.unwrap();
    }

    /// From now on speaks to another namespace, over the same connection.
    pub fn turn_to(&mut self, namespace: &str) {
        namespace.clone_into(&mut self.namespace);
    }

    /// Sends an event whose argument is this text and waits for its ack.
    pub async fn ask_text(&mut self, event: &str, data: &str) -> Value {
        self.asked += 1;
        let id = self.asked;
        self.write(&self.packet("2", &format!("{id}[{},{data}]", json!(event)))).await;
        self.ack(id).await
    }

    /// Sends an event and waits for its ack.
    pub async fn ask(&mut self, event: &str, data: Value) -> Value {
        let id = self.ask_later(event, data).await.expect("the server has closed the connection");
        self.ack(id).await
    }

    /// Sends an event and waits for its ack; `None` where the server ends the connection before.
    pub async fn try_ask(&mut self, event: &str, data: Value) -> Option<Value> {
        let id = self.ask_later(event, data).await?;
        loop {
            if let Some(at) = self.acks.iter().position(|(acknowledged, _)| *acknowledged == id) {
                return self.acks.remove(at).map(|(_, ack)| ack);
            }
            if !self.receive().await {
                return None;
            }
        }
    }

    /// Sends an event that asks for an ack, to be waited for by the number that this returns;
    /// `None` where the server has ended the connection.
    pub async fn ask_later(&mut self, event: &str, data: Value) -> Option<u64> {
        self.asked += 1;
        let packet = self.packet("2", &format!("{}{}", self.asked, json!([event, data])));
        self.socket.send(Message::text(packet)).await.ok().map(|()| self.asked)
    }

    /// As [`ask_later`](Self::ask_later) with any number of arguments, each a text.
    pub async fn ask_all_later(&mut self, event: &str, arguments: &[&str]) -> u64 {
        self.asked += 1;
        let name = json!(event).to_string();
        let parts = std::iter::once(&*name).chain(arguments.iter().copied());
        let list = parts.collect::<Vec<_>>().join(",");
        self.write(&self.packet("2", &format!("{}[{list}]", self.asked))).await;
        self.asked
    }

    /// As [`emit_binary`](Self::emit_binary), and asks for an ack.
    pub async fn ask_binary_later(&mut self, event: &str, data: &str, bytes: &[&[u8]]) -> u64 {
        self.asked += 1;
        let kind = format!("5{}-", bytes.len());
        let text = format!("{}[{},{data}]", self.asked, json!(event));
        self.write(&self.packet(&kind, &text)).await;
        for attachment in bytes {
            self.send_binary(attachment).await;
        }
        self.asked
    }

    /// Waits for the ack of this number.
    pub async fn ack(&mut self, id: u64) -> Value {
        loop {
            if let Some(at) = self.acks.iter().position(|(acknowledged, _)| *acknowledged == id) {
                return self.acks.remove(at).unwrap().1;
            }
            assert!(self.receive().await, "the server closed the connection before the ack");
        }
    }

    /// The next ack and its number; `None` where the server ends the connection before.
    pub async fn next_ack(&mut self) -> Option<(u64, Value)> {
        while self.acks.is_empty() {
            if !self.receive().await {
                return None;
            }
        }
        self.acks.pop_front()
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

    /// As [`next`](Self::next); `None` where the server ends the connection before.
    pub async fn try_next(&mut self, name: &str) -> Option<Value> {
        loop {
            if let Some(at) = self.events.iter().position(|event| event.name == name) {
                return self.events.remove(at).map(|event| event.data);
            }
            if !self.receive().await {
                return None;
            }
        }
    }

    /// The next event of this name, which may have come already. Others are kept.
    pub async fn next_event(&mut self, name: &str) -> Event {
        self.next_of(&[name]).await
    }

    /// The next event of one of these names, which may have come already. Others are kept.
    pub async fn next_of(&mut self, names: &[&str]) -> Event {
        loop {
            if let Some(at) =
                self.events.iter().position(|event| names.contains(&event.name.as_str()))
            {
                return self.events.remove(at).unwrap();
            }
            assert!(self.receive().await, "the server closed the connection before {names:?}");
        }
    }

    /// Everything up to the next event of this name, in its order.
    pub async fn until(&mut self, name: &str) -> Vec<Event> {
        loop {
            if let Some(at) = self.events.iter().position(|event| event.name == name) {
                return self.events.drain(..=at).collect();
            }
            assert!(self.receive().await, "the server closed the connection before {name}");
        }
    }

    /// Waits until everything has come that was sent to it until now.
    ///
    /// What other nodes have said to this client's comes in their order: so an answer of each to each comes
    /// behind it. Over several instances of Redis, each has an order of its own.
    pub async fn settle(&mut self) {
        let clusters = self.nodes.iter().filter_map(|node| node.cluster.as_ref());
        for cluster in clusters.clone() {
            cluster.all_sent().await;
        }
        for cluster in clusters {
            assert!(cluster.all_heard().await, "an instance is away");
        }
        for node in &self.nodes {
            let answers = node.broker.survey::<Value>(&Survey::Counts, None).await;
            assert!(!answers.is_partial(), "{answers:?}");
        }
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

    /// Everything that was sent to it until now and that nobody has asked for, in its order.
    pub async fn everything(&mut self) -> Vec<Event> {
        self.settle().await;
        self.events.drain(..).collect()
    }

    /// The names of [`everything`](Self::everything).
    pub async fn names(&mut self) -> Vec<String> {
        self.everything().await.into_iter().map(|event| event.name).collect()
    }

    /// Forgets what has come until now.
    pub async fn forget(&mut self) {
        drop(self.everything().await);
    }

    /// Forgets what has come so far, without asking the server for more.
    pub fn clear(&mut self) {
        self.events.clear();
    }

    /// Everything of this name that has come so far and that nobody has asked for; it stays.
    pub fn arrived(&self, name: &str) -> Vec<Value> {
        let events = self.events.iter().filter(|event| event.name == name);
        events.map(|event| event.data.clone()).collect()
    }

    /// Forgets what has come of this name.
    pub fn drop_events(&mut self, name: &str) {
        self.events.retain(|event| event.name != name);
    }

    /// What it says of its session when it connects anew, as socket.io-client does.
    pub fn back(&self) -> Value {
        match &self.offset {
            Some(offset) => json!({"pid": self.pid, "offset": offset}),
            None => json!({"pid": self.pid}),
        }
    }

    /// Waits until the server has ended the connection to the namespace; the transport stays open.
    pub async fn ended_in_namespace(&mut self) {
        while self.receive().await {}
    }

    /// Asks to enter a namespace over the same transport; the message of the server's
    /// `connect_error` where it does not let the client in.
    pub async fn enter(&mut self, namespace: &str) -> Result<(), Value> {
        namespace.clone_into(&mut self.namespace);
        self.write(&self.packet("0", "")).await;
        loop {
            let frame = self.read().await.expect("the server closed the connection");
            let Some(packet) = frame.strip_prefix('4') else { continue };
            let (kind, _, data) = take_apart(packet);
            match kind {
                '0' => return Ok(()),
                '4' => return Err(serde_json::from_str::<Value>(data).unwrap()["message"].clone()),
                _ => {}
            }
        }
    }

    /// Waits until the server has ended the connection to the namespace.
    pub async fn ended(mut self) {
        while self.receive().await {}
    }

    /// As [`ended`](Self::ended); fails if an event of this name comes before.
    pub async fn ended_without(mut self, name: &str) {
        while self.receive().await {}
        assert!(self.events.iter().all(|event| event.name != name), "{name} came");
    }

    /// Loses its connection.
    pub async fn tear(&mut self) {
        self.socket.get_mut().shutdown().await.unwrap();
    }

    /// Closes the websocket.
    pub async fn close(mut self) {
        self.socket.close(None).await.unwrap();
    }

    /// Leaves, as `socket.disconnect()` does.
    pub async fn disconnect(mut self) {
        self.write(&self.packet("1", "")).await;
        self.socket.close(None).await.unwrap();
    }

    /// Takes in one packet; false where the server has ended the connection.
    async fn receive(&mut self) -> bool {
        let Some(frame) = self.read().await else { return false };
        let Some(packet) = frame.strip_prefix('4') else { return true };
        let (kind, number, data) = take_apart(packet);
        let namespace = namespace_of(packet);
        match kind {
            // The end of its namespace, not of another on the same connection.
            '1' => return namespace != self.namespace,
            '2' | '5' => {
                let parts: Vec<&RawValue> = serde_json::from_str(data).unwrap();
                let name = serde_json::from_str(parts[0].get()).unwrap();
                // A number may be too large for a `Value`; the text has it.
                let read = |part: &&RawValue| serde_json::from_str(part.get()).unwrap_or_default();
                let arguments = parts[1..].iter().map(read).collect::<Vec<Value>>();
                let data = arguments.first().cloned().unwrap_or_default();
                let text = parts.get(1).map_or("", |part| part.get()).to_owned();
                let attachments = Vec::new();
                let ack = match packet.split_once('-').filter(|_| kind == '5') {
                    Some((_, rest)) => take_apart(&format!("2{rest}")).1,
                    None => number,
                };
                let mut event = Event { name, data, arguments, text, attachments, namespace, ack };
                for _ in 0..number.filter(|_| kind == '5').unwrap_or(0) {
                    event.attachments.push(self.read_binary().await);
                }
                if let Some(Value::String(offset)) = event.arguments.last()
                    && self.pid.is_some()
                    && event.namespace == self.namespace
                    && event.ack.is_none()
                {
                    self.offset = Some(offset.clone());
                }
                self.events.push_back(event);
            }
            '3' => self.acks.push_back((number.unwrap(), only(data))),
            '6' => {
                let (count, rest) = packet[1..].split_once('-').unwrap();
                let rest = format!("3{rest}");
                let (_, number, data) = take_apart(&rest);
                let mut ack = only(data);
                for num in 0..count.parse::<usize>().unwrap() {
                    fill(&mut ack, num, &self.read_binary().await);
                }
                self.acks.push_back((number.unwrap(), ack));
            }
            // The answer to the CONNECT of a further namespace.
            '0' | '4' => {
                let name = if kind == '0' { "connect" } else { "connect_error" }.to_owned();
                let (text, attachments) = (data.to_owned(), Vec::new());
                let data = serde_json::from_str::<Value>(data).unwrap_or_default();
                let arguments = vec![data.clone()];
                self.events.push_back(Event {
                    name,
                    data,
                    arguments,
                    text,
                    attachments,
                    namespace,
                    ack: None,
                });
            }
            _ => panic!("unexpected packet {packet}"),
        }
        true
    }

    /// The attachment that follows its event.
    async fn read_binary(&mut self) -> Vec<u8> {
        loop {
            let frame = tokio::time::timeout(DEADLINE, self.socket.next()).await;
            match frame.expect("nothing came for ten seconds") {
                Some(Ok(Message::Binary(bytes))) => return bytes.to_vec(),
                Some(Ok(Message::Text(text))) if text == "2" => self.answer_ping().await,
                other => panic!("{other:?} instead of an attachment"),
            }
        }
    }

    /// The next frame that is no heartbeat; `None` at the end.
    async fn read(&mut self) -> Option<String> {
        loop {
            let frame = tokio::time::timeout(DEADLINE, self.socket.next());
            let frame = frame.await.expect("nothing came for ten seconds");
            match frame {
                Some(Ok(Message::Text(text))) if text == "2" => self.answer_ping().await,
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

    fn packet(&self, kind: &str, data: &str) -> String {
        match self.namespace.as_str() {
            "/" => format!("4{kind}{data}"),
            namespace => format!("4{kind}{namespace},{data}"),
        }
    }
}

/// The argument of an ack; all of them as a list if there is not just one.
fn only(data: &str) -> Value {
    let arguments: Vec<Value> = serde_json::from_str(data).unwrap();
    match <[Value; 1]>::try_from(arguments) {
        Ok([argument]) => argument,
        Err(arguments) => arguments.into(),
    }
}

/// Puts an attachment's bytes, as numbers, in the place of its placeholder.
fn fill(value: &mut Value, num: usize, bytes: &[u8]) {
    if *value == json!({"_placeholder": true, "num": num}) {
        *value = bytes.into();
        return;
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, num, bytes)),
        Value::Object(fields) => fields.values_mut().for_each(|field| fill(field, num, bytes)),
        _ => {}
    }
}

/// A Socket.IO packet's kind, its number, and its data. The number is that of the ack, or of a
/// binary event the count of its attachments.
fn take_apart(packet: &str) -> (char, Option<u64>, &str) {
    let (kind, mut rest) = packet.split_at(1);
    let mut count = None;
    if let Some((digits, behind)) = rest.split_once('-').filter(|_| kind == "5") {
        (count, rest) = (digits.parse().ok(), behind);
    }
    if rest.starts_with('/') {
        rest = rest.split_once(',').map_or("", |(_, rest)| rest);
    }
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (id, data) = rest.split_at(digits);
    (kind.chars().next().unwrap(), count.or_else(|| id.parse().ok()), data)
}

/// The namespace that a Socket.IO packet names.
fn namespace_of(packet: &str) -> String {
    let rest = packet.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
    match rest.split_once(',') {
        Some((namespace, _)) if rest.starts_with('/') => namespace.to_owned(),
        _ => "/".to_owned(),
    }
}

/// The names of an object's fields, in order of the alphabet.
#[track_caller]
pub fn fields(object: &Value) -> Vec<&str> {
    let mut names: Vec<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// The object without its time stamp, which must be one: RFC 3339 UTC with milliseconds.
#[track_caller]
pub fn timeless(mut object: Value) -> Value {
    let timestamp = object.as_object_mut().unwrap().remove("timestamp");
    let timestamp = timestamp.expect("a time stamp");
    let text = timestamp.as_str().unwrap();
    assert!(text.len() == 24 && text.ends_with('Z') && text.as_bytes()[10] == b'T', "{text}");
    object
}
