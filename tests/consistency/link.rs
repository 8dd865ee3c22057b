//! One connection of a client: a Socket.IO websocket that notes whatever comes, in the order in which it comes.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::{Mutex as AsyncMutex, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use crate::{
    handshake::handshake,
    history::{Answer, ClientNo, ConnectionNo, Event, History, Joined, Page, Position},
};

/// How long an answer may take before the client gives its connection up.
const PATIENCE: Duration = Duration::from_secs(6);

/// What a client remembers of its rooms, as the README's helper does.
pub type Positions = Arc<Mutex<HashMap<String, Position>>>;

/// A question that waits for its acknowledgement.
enum Asked {
    Join { room: String, is_member: bool },
    Leave { room: String },
    Send { id: String },
    Page { room: String, after: u64 },
    Private { id: String },
}

/// A page under way: its room, and the offsets and ids that have come.
type Paging = (String, Vec<(u64, String)>);

/// What the reader and the writer share.
struct Shared {
    who: (ClientNo, ConnectionNo),
    history: Arc<History>,
    positions: Positions,
    asked: Mutex<HashMap<u64, (Asked, oneshot::Sender<Value>)>>,
    page: Mutex<Option<Paging>>,
    /// All room messages that have come.
    seen: Mutex<HashSet<String>>,
    sink: AsyncMutex<SplitSink<WebSocketStream<TcpStream>, Message>>,
}

/// A connection.
pub struct Link {
    shared: Arc<Shared>,
    /// The server's name for it.
    pub id: String,
    number: AtomicU64,
    reads: watch::Sender<bool>,
    reader: JoinHandle<()>,
}

impl Link {
    /// Connects a user to a node; `None` where that does not answer, or does not let it in.
    pub async fn open(
        address: SocketAddr,
        node: usize,
        (user, token): (&str, &str),
        who: (ClientNo, ConnectionNo),
        history: &Arc<History>,
        positions: &Positions,
    ) -> Option<Self> {
        let opened = timeout(PATIENCE, handshake(address, token)).await.ok()??;
        let (stream, id) = opened;
        history.note(Some(who), Event::Connected { user: user.to_owned(), node });
        let (sink, frames) = stream.split();
        let shared = Arc::new(Shared {
            who,
            history: history.clone(),
            positions: positions.clone(),
            asked: Mutex::default(),
            page: Mutex::default(),
            seen: Mutex::default(),
            sink: AsyncMutex::new(sink),
        });
        let (reads, reading) = watch::channel(true);
        let reader = tokio::spawn(shared.clone().read(frames, reading));
        Some(Self { shared, id, number: AtomicU64::new(0), reads, reader })
    }

    /// Its number in the history.
    pub fn number(&self) -> ConnectionNo {
        self.shared.who.1
    }

    /// Whether the connection still stands, as far as is known.
    pub fn stands(&self) -> bool {
        !self.reader.is_finished()
    }

    /// Whether a room's message has come.
    pub fn has_seen(&self, id: &str) -> bool {
        self.shared.seen.lock().contains(id)
    }

    /// Stops reading: what the server sends stays where it is.
    pub fn stop_reading(&self) {
        self.reads.send_replace(false);
    }

    /// Reads on.
    pub fn read_on(&self) {
        self.reads.send_replace(true);
    }

    /// Joins a room, or, as a member, asks where it stands. `recover`: from what it remembers of the room on.
    pub async fn join(&self, room: &str, is_member: bool, recover: bool) -> Option<bool> {
        let known = self.shared.known(room, is_member, recover);
        let mut wish = json!({"roomName": room});
        if let Some(Position { offset, epoch }) = &known {
            wish["offset"] = json!(offset);
            wish["epoch"] = json!(epoch);
        }
        let asked = Asked::Join { room: room.to_owned(), is_member };
        let event = Event::JoinAsked { room: room.to_owned(), from: known };
        let ack = self.ask(event, asked, "join-room", &wish).await?.await.ok()?;
        Some(ack["success"] == true)
    }

    /// Leaves a room, and forgets where it stood.
    pub async fn leave(&self, room: &str) -> Option<bool> {
        self.shared.positions.lock().remove(room);
        let asked = Asked::Leave { room: room.to_owned() };
        let event = Event::LeaveAsked { room: room.to_owned() };
        let ack = self.ask(event, asked, "leave-room", &json!({"roomName": room})).await?;
        Some(ack.await.ok()?["success"] == true)
    }

    /// Sends a message to a room; the acknowledgement is to be waited for.
    pub async fn send(
        &self,
        room: &str,
        id: &str,
        event: &str,
        payload: &Value,
        left_out: bool,
    ) -> Option<oneshot::Receiver<Value>> {
        let left_out = left_out.then_some(self.number());
        let noted = Event::SendAsked { id: id.to_owned(), room: room.to_owned(), left_out };
        self.ask(noted, Asked::Send { id: id.to_owned() }, event, payload).await
    }

    /// Reads a page of a room that it is no member of; what to ask for next, `None` where that was all.
    pub async fn page(
        &self,
        room: &str,
        after: u64,
        limit: usize,
    ) -> Option<Result<Option<u64>, String>> {
        *self.shared.page.lock() = Some((room.to_owned(), Vec::new()));
        let event = Event::PageAsked { room: room.to_owned(), after };
        let wish = json!({"roomId": room, "offset": after, "limit": limit});
        let asked = Asked::Page { room: room.to_owned(), after };
        let ack = self.ask(event, asked, "syncMessages", &wish).await?.await.ok()?;
        if ack["success"] != true {
            return Some(Err(code(&ack)));
        }
        Some(Ok(ack["offset"].as_u64().filter(|_| ack["complete"] != true)))
    }

    /// Writes to a user; whether that was queued.
    pub async fn private(&self, to: &str, id: &str) -> Option<Result<bool, String>> {
        let event = Event::PrivateAsked { id: id.to_owned(), to: to.to_owned() };
        let text = "x".repeat(200);
        let wish = json!({"targetUserId": to, "message": text, "id": id});
        let asked = Asked::Private { id: id.to_owned() };
        let ack = self.ask(event, asked, "private-message", &wish).await?.await.ok()?;
        Some(queued(&ack))
    }

    async fn ask(
        &self,
        event: Event,
        asked: Asked,
        name: &str,
        payload: &Value,
    ) -> Option<oneshot::Receiver<Value>> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let (tell, answer) = oneshot::channel();
        self.shared.asked.lock().insert(number, (asked, tell));
        self.shared.history.note(Some(self.shared.who), event);
        let frame = format!("42{number}{}", json!([name, payload]));
        self.shared.write(frame).await.then_some(answer)
    }

    /// Ends the connection without a word, by a reset: what is on its way to the client is gone.
    pub async fn vanish(self) {
        self.reader.abort();
        let _aborted = self.reader.await;
        self.shared.end("the client vanished");
    }

    /// Leaves as `socket.disconnect()` does.
    pub async fn disconnect(self) {
        self.shared.write("41".to_owned()).await;
        self.reader.abort();
        let _aborted = self.reader.await;
        self.shared.end("the client left");
    }
}

/// An answer within the time that a client has for it.
pub async fn answered<T>(answer: impl Future<Output = Option<T>>) -> Option<T> {
    timeout(PATIENCE, answer).await.ok().flatten()
}

fn code(ack: &Value) -> String {
    ack["code"].as_str().map_or_else(|| ack.to_string(), str::to_owned)
}

fn answer<T>(ack: &Value, read: impl FnOnce() -> T) -> Answer<T> {
    if ack["success"] == true { Ok(read()) } else { Err(code(ack)) }
}

fn queued(ack: &Value) -> Answer<bool> {
    answer(ack, || ack["queued"] == true)
}

/// A message id: the clients' own, or the `UUID` of what came by HTTP.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Shared {
    async fn write(&self, frame: String) -> bool {
        let sent =
            timeout(PATIENCE, async { self.sink.lock().await.send(Message::text(frame)).await });
        sent.await.is_ok_and(|sent| sent.is_ok())
    }

    fn end(&self, why: &str) {
        self.history.note(Some(self.who), Event::Ended { why: why.to_owned() });
        self.asked.lock().clear();
    }

    async fn read(
        self: Arc<Self>,
        mut frames: SplitStream<WebSocketStream<TcpStream>>,
        mut reading: watch::Receiver<bool>,
    ) {
        let why = loop {
            if reading.wait_for(|reads| *reads).await.is_err() {
                break "it was dropped".to_owned();
            }
            let frame = tokio::select! {
                biased;
                _ = reading.changed() => continue,
                frame = frames.next() => frame,
            };
            match frame {
                Some(Ok(Message::Text(text))) => match text.as_str() {
                    "2" => drop(self.write("3".to_owned()).await),
                    "1" | "41" => break "the server ended it".to_owned(),
                    packet => self.take(packet),
                },
                Some(Ok(Message::Close(frame))) => {
                    break format!("the server closed it: {frame:?}");
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => break error.to_string(),
                None => break "it is over".to_owned(),
            }
        };
        self.end(&why);
    }

    fn take(&self, packet: &str) {
        if let Some(event) = packet.strip_prefix("42") {
            let [name, argument]: [Value; 2] = serde_json::from_str(event).unwrap_or_default();
            self.happen(name.as_str().unwrap_or_default(), &argument);
        } else if let Some(ack) = packet.strip_prefix("43") {
            let at = ack.find('[').unwrap();
            let [data] = serde_json::from_str::<[Value; 1]>(&ack[at..]).unwrap();
            let asked = self.asked.lock().remove(&ack[..at].parse().unwrap());
            if let Some((asked, tell)) = asked {
                self.answer(asked, &data);
                // Whoever asked may have given up.
                let _ = tell.send(data);
            }
        }
    }

    fn happen(&self, name: &str, argument: &Value) {
        match name {
            "message-reply" | "newMessage" | "resource-update" => {
                let room = [&argument["roomName"], &argument["roomId"]];
                let room = room.into_iter().find_map(Value::as_str).unwrap_or_default();
                let (id, offset) = (text(&argument["id"]), argument["offset"].as_u64());
                let offset = offset.unwrap_or_else(|| panic!("no offset in {argument}"));
                self.arrive(room, offset, id);
            }
            "private-message" => {
                let id = text(&argument["id"]);
                self.history.note(Some(self.who), Event::PrivateReceived { id });
            }
            _ => {}
        }
    }

    fn arrive(&self, room: &str, offset: u64, id: String) {
        if let Some((paged, items)) = &mut *self.page.lock()
            && paged == room
        {
            items.push((offset, id));
            return;
        }
        if let Some(position) = self.positions.lock().get_mut(room) {
            position.offset = position.offset.max(offset);
        }
        let event = Event::Received { room: room.to_owned(), offset, id: id.clone() };
        self.history.note(Some(self.who), event);
        self.seen.lock().insert(id);
    }

    fn answer(&self, asked: Asked, ack: &Value) {
        let event = match asked {
            Asked::Join { room, is_member } => {
                let answer = answer(ack, || joined(ack));
                if let Ok(joined) = answer.as_ref()
                    && !is_member
                {
                    self.remember(&room, joined);
                }
                Event::JoinAnswered { room, answer }
            }
            Asked::Leave { room } => Event::LeaveAnswered { room, answer: answer(ack, || ()) },
            Asked::Send { id } => {
                let answer = answer(ack, || ack["offset"].as_u64().unwrap_or_default());
                Event::SendAnswered { id, answer }
            }
            Asked::Page { room, after } => {
                let items = self.page.lock().take().map(|(_, items)| items).unwrap_or_default();
                let page = || Page {
                    epoch: text(&ack["epoch"]),
                    offset: ack["offset"].as_u64().unwrap_or_default(),
                    complete: ack["complete"] == true,
                    items,
                };
                Event::PageAnswered { room, after, answer: answer(ack, page) }
            }
            Asked::Private { id } => Event::PrivateAnswered { id, answer: queued(ack) },
        };
        self.history.note(Some(self.who), event);
    }

    /// What a join is to begin with. From now on what comes of the room is remembered.
    fn known(&self, room: &str, is_member: bool, recover: bool) -> Option<Position> {
        if is_member {
            return None;
        }
        let mut positions = self.positions.lock();
        let nothing = Position { offset: 0, epoch: None };
        let position = positions.entry(room.to_owned()).or_insert_with(|| nothing.clone());
        if !recover {
            *position = nothing.clone();
        }
        Some(position.clone()).filter(|position| *position != nothing)
    }

    /// As the README's helper does.
    fn remember(&self, room: &str, joined: &Joined) {
        let mut positions = self.positions.lock();
        let known = positions.get(room).map_or(0, |known| known.offset);
        let known = if joined.recovered == Some(false) { 0 } else { known };
        let epoch = Some(joined.epoch.clone());
        positions.insert(room.to_owned(), Position { offset: joined.offset.max(known), epoch });
    }
}

fn joined(ack: &Value) -> Joined {
    Joined {
        offset: ack["offset"].as_u64().unwrap_or_default(),
        epoch: text(&ack["epoch"]),
        recovered: ack["recovered"].as_bool(),
        missed: ack["missed"].as_u64().unwrap_or_default(),
    }
}
