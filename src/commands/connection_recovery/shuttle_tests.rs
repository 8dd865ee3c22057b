//! What an application sees whose client loses its connection again and again, whatever the order in which tasks run:
//! each message once and in order, though messages are delivered, pings answered, connections lost and taken over at
//! the same time.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use serde_json::Value;
use shuttle::{
    future::{JoinHandle, spawn, yield_now},
    rand::{Rng, thread_rng},
};

use super::*;
use crate::{
    commands::context::shuttle_tests,
    config::Config,
    hub::{
        EventStyle, Membership, Room, RoomState,
        packet::{KeptFor, Packet},
        sender::shuttle_tests::connect_to_session,
    },
    protocol::{audience::Except, names::RoomName, position::Position},
    store::{Committed, Entry},
    sync::check,
    transport::{
        Wire,
        shuttle_tests::{Line, join, wire},
    },
};

/// How many messages the room gets, and how many everyone.
const MESSAGES: u64 = 3;

/// How often the connection is lost before the last one.
const LOSSES: usize = 3;

/// How long a connection lasts, in turns of other tasks, at most.
const LASTS: usize = 150;

/// How many bytes a client may have unsent: what was missed is sent in pieces.
const SEND_BUFFER: usize = 1000;

/// The room's event, and everyone's.
const EVENTS: [&str; 2] = ["m", "e"];

/// Says that the client is in the room.
const READY: &str = "ready";

/// One node, with a room.
#[derive(Clone)]
struct Node {
    context: Context,
    wire: Wire,
    namespace: Arc<Namespace>,
    room: RoomName,
}

impl Node {
    fn new() -> Self {
        let wire = wire(SEND_BUFFER);
        wire.number_packets();
        let config =
            Config { connection_state_recovery: Duration::from_mins(2), ..Config::default() };
        let context = shuttle_tests::context(config, &wire, |_, _, _| false);
        let namespace = context.registry.namespaces()[0].clone();
        Self { context, wire, namespace, room: RoomName::parse("r").unwrap() }
    }

    /// A connection from its CONNECT to its end, in the order of the gateway and of the client's inbox.
    async fn serve(self, line: Line, back: Option<Back>) {
        let (context, namespace) = (&self.context, &self.namespace);
        let account = self.wire.memory().open_account();
        let claim = match &back {
            Some(back) => claim(context, namespace, back, &Owner::Unknown, &account).await,
            None => None,
        };
        let journal = match &claim {
            Some(claim) => claim.journal().clone(),
            None => {
                let before = back.as_ref().and_then(|back| back.newest().ok().flatten());
                open(context, &account, before).unwrap()
            }
        };
        let id = claim.as_ref().map_or_else(ClientId::make, |claim| claim.id().clone());
        let (sender, library) = connect_to_session(&line, journal.clone());
        let session = Session::anonymous(&context.config);
        let client = Client::new(id, namespace.clone(), "c".into(), 4, None, sender, session);
        let client = Arc::new(client);
        if let Some(claim) = claim {
            assert!(claim.resume(&client), "a claim is good until it is given back");
            client.sender.greet();
            namespace.add(client.clone());
            recover(context, &client, claim).await;
        } else {
            journal.connect(&client);
            client.sender.greet();
            namespace.add(client.clone());
            self.join(&client);
            client.sender.send(&Packet::of(READY, &0));
        }
        line.wait_over().await;
        client.sender.close();
        let may_come_back = leave(context, self.wire.memory(), &client, true);
        namespace.remove(&client);
        room::leave_all(context, &client, may_come_back);
        if may_come_back {
            settle(context, &client);
        }
        library.await.unwrap();
    }

    fn join(&self, client: &Arc<Client>) {
        let style = EventStyle::Dashed;
        let enter = |room: &Arc<Room>, state: &mut RoomState| {
            state.insert(client.clone(), style);
            let (room, echo) = (room.clone(), "\"r\"".into());
            let membership = Membership { room, style, echo, is_granted: false };
            client.add_membership(self.room.clone(), membership);
        };
        self.namespace.with_room(&self.room, enter).unwrap();
    }

    /// Writes to the room.
    async fn write(self) {
        let epoch = "0000000000000001".parse().unwrap();
        for offset in 1..=MESSAGES {
            let entry = Entry {
                id: String::new(),
                event: EVENTS[0].into(),
                json: r#"{"x":0}"#.into(),
                attachments: Vec::new(),
                timestamp_ms: 0,
            };
            let (room, except) = (self.namespace.key(&self.room), Except::default());
            let position = Position { offset, epoch };
            let message = Committed { room, position, entry: entry.into(), except };
            self.context.broker.here.committed(&message);
        }
    }

    /// Tells everyone, with what is not kept in between.
    async fn tell(self) {
        let (here, except) = (&self.context.broker.here, Except::nobody());
        for n in 1..=MESSAGES {
            let packet = Packet::of(EVENTS[1], &n).kept_for(KeptFor::Direct);
            here.to_namespace(&self.namespace, &packet, &except);
            here.to_namespace(&self.namespace, &Packet::of("passing", &n), &except);
        }
    }

    /// Checks that nothing remains when the time of all that are away is over.
    fn assert_empty(&self) {
        let registry = &self.context.registry;
        assert_eq!(registry.connections(), 0);
        for journal in registry.journals.take_over(true) {
            end(&self.context, &journal, Place::Away);
        }
        assert!(registry.journals.all().is_empty(), "a session is left");
        assert!(self.namespace.room(self.room.as_str()).is_none(), "a member is left");
    }
}

/// The client, and what its application has seen.
#[derive(Default)]
struct Reader {
    pid: Option<String>,
    offset: Option<String>,
    /// The newest message of the room, and the newest to everyone.
    newest: [u64; EVENTS.len()],
    recovered: usize,
    /// It was let in as a new client after it had been one.
    is_new: bool,
    /// Its connections, and the tasks that go on with them.
    lines: Vec<(Line, JoinHandle<()>)>,
}

impl Reader {
    fn connect(&mut self, node: &Node) -> Line {
        let line = Line::new(&node.wire);
        let back = self.pid.clone().map(|pid| Back { pid, offset: self.offset.clone() });
        let served = spawn(node.clone().serve(line.clone(), back));
        self.lines.push((line.clone(), served));
        line
    }

    /// Reads from a connection until it ends, or `is_all` says so after a packet.
    async fn read(&mut self, line: &Line, is_all: impl Fn(&Self, &str) -> bool) {
        let mut number = 0;
        while let Some(text) = line.packet(number).await {
            number += 1;
            if text == "2" {
                line.answer_ping();
            }
            self.take(&text);
            if is_all(self, &text) {
                return;
            }
            // What has arrived before a connection breaks is not always seen.
            if line.handle().is_over() && thread_rng().r#gen() {
                return;
            }
        }
    }

    fn take(&mut self, text: &str) {
        if let Some(answer) = text.strip_prefix("40") {
            let answer: Value = serde_json::from_str(answer).unwrap();
            let Some(pid) = answer["pid"].as_str() else { return };
            let before = self.pid.replace(pid.to_owned());
            self.recovered += usize::from(before.as_deref() == Some(pid));
            self.is_new |= before.is_some_and(|before| before != pid);
        } else if let Some(event) = text.strip_prefix("42") {
            let event: Vec<Value> = serde_json::from_str(event).unwrap();
            self.offset = event.last().and_then(Value::as_str).map(str::to_owned);
            let number = if event[0] == EVENTS[0] { &event[1]["offset"] } else { &event[1] };
            if let Some(sequence) = EVENTS.iter().position(|name| event[0] == *name) {
                let newest = &mut self.newest[sequence];
                assert_eq!(number.as_u64(), Some(*newest + 1), "{} after {newest}", event[0]);
                *newest += 1;
            }
        }
    }

    fn has_all(&self) -> bool {
        self.newest == [MESSAGES; EVENTS.len()]
    }

    /// Connects, and reads until the connection breaks; or gives it up at once, and the server is not told.
    async fn visit(&mut self, node: &Node) {
        let line = self.connect(node);
        if thread_rng().gen_range(0..4) == 0 {
            return;
        }
        let lasts = thread_rng().gen_range(0..LASTS);
        let network = {
            let line = line.clone();
            spawn(async move {
                for _ in 0..lasts {
                    yield_now().await;
                }
                line.cut();
            })
        };
        self.read(&line, |reader, _| reader.is_new).await;
        self.lines.push((line, network));
    }
}

static RECOVERED: AtomicUsize = AtomicUsize::new(0);
static NEW: AtomicUsize = AtomicUsize::new(0);

#[test]
fn nothing_is_missing_or_comes_twice_however_often_the_connection_is_lost() {
    check(|| async {
        let (node, mut reader) = (Node::new(), Reader::default());
        let line = reader.connect(&node);
        reader.read(&line, |_, text| text.contains(READY)).await;
        let writers = [spawn(node.clone().write()), spawn(node.clone().tell())];
        line.cut();
        for _ in 0..LOSSES {
            reader.visit(&node).await;
        }
        join(writers).await;
        // An older connection may be let in late, and take over the last one.
        while !reader.has_all() && !reader.is_new {
            let line = reader.connect(&node);
            reader.read(&line, |reader, _| reader.has_all() || reader.is_new).await;
        }
        RECOVERED.fetch_add(reader.recovered, Relaxed);
        NEW.fetch_add(usize::from(reader.is_new), Relaxed);
        for (line, task) in std::mem::take(&mut reader.lines) {
            line.cut();
            task.await.unwrap();
        }
        node.assert_empty();
    });
    let (recovered, new) = (RECOVERED.load(Relaxed), NEW.load(Relaxed));
    assert!(recovered > 20 * new, "{recovered} recovered, {new} new");
}
