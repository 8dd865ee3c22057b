//! Members get what they must get, whatever happens to the room's log while they come and go.
//!
//! Random steps drive the real room, fan-out and joins over a log that is a plain vector. Joins are polled
//! step by step, and each read of the log takes several polls, so that everything else happens in between.
//! Every client's events are recorded, and [`Judge`] checks them afterwards.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::Value;

use super::*;
use crate::{
    broker::fanout::Fanout,
    config::Config,
    hub::{
        EventStyle, Namespace, Registry, Session, observer::Observer, packet::Packet,
        sender::ClientSender,
    },
    memory::{self, Memory},
    protocol::{audience::Except, client_id::ClientId, epoch::Epoch},
    store::{Committed, Entry, Stored},
    telemetry::metrics::Metrics,
    transport::{self, Wire},
};

const PEOPLE: usize = 3;
/// More than a room buffers while delivery is paused.
const BURST: usize = 600;

#[derive(Debug, Clone)]
enum Step {
    /// Begins a join, which may ask to recover.
    Join(usize, Ask),
    /// Polls the join that many times.
    Poll(usize, usize),
    /// The join fails, as if the log could not be read.
    Fail(usize),
    Leave(usize),
    /// Stores that many messages, the first of which excludes the given client.
    Send(usize, Option<usize>),
    /// Delivers that many of the stored messages.
    Deliver(usize),
    Trim(u64),
    /// The history begins anew. If `is_late`, undelivered messages are still delivered.
    Restart {
        is_late: bool,
    },
}

#[derive(Debug, Clone)]
enum Ask {
    Nothing,
    /// Everything after the newest message that it has.
    Rest,
    /// Everything after this offset, in whatever epoch.
    After(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let ask = prop_oneof![2 => Just(Ask::Nothing), 3 => Just(Ask::Rest), 1 => (0..8_u64).prop_map(Ask::After)];
    prop_oneof![
        6 => (0..PEOPLE, ask).prop_map(|(who, ask)| Step::Join(who, ask)),
        8 => (0..PEOPLE, 1..8_usize).prop_map(|(who, looks)| Step::Poll(who, looks)),
        1 => (0..PEOPLE).prop_map(Step::Fail),
        2 => (0..PEOPLE).prop_map(Step::Leave),
        8 => (1..4_usize, proptest::option::of(0..PEOPLE)).prop_map(|(count, but)| Step::Send(count, but)),
        1 => proptest::option::of(0..PEOPLE).prop_map(|but| Step::Send(BURST, but)),
        6 => (1..5_usize).prop_map(Step::Deliver),
        2 => Just(Step::Deliver(usize::MAX)),
        1 => (1..4_u64).prop_map(Step::Trim),
        2 => any::<bool>().prop_map(|is_late| Step::Restart { is_late }),
    ]
}

/// All messages there ever were, in the order of the log.
#[derive(Default)]
struct Histories {
    /// The index of the first message of each epoch.
    starts: Vec<usize>,
    messages: Vec<(Entry, Except)>,
    oldest: u64,
    /// How often messages were lost.
    losses: usize,
}

impl Histories {
    fn restart(&mut self) {
        self.starts.push(self.messages.len());
        self.oldest = 1;
        self.losses += 1;
    }

    fn epoch(number: usize) -> Epoch {
        format!("{number:016x}").parse().unwrap()
    }

    /// The number of messages before the oldest one that is still there.
    fn trimmed(&self) -> usize {
        self.starts[self.starts.len() - 1] + usize::try_from(self.oldest).unwrap() - 1
    }

    fn head(&self) -> Position {
        let (number, start) = (self.starts.len() - 1, self.starts[self.starts.len() - 1]);
        Position { offset: (self.messages.len() - start) as u64, epoch: Self::epoch(number) }
    }

    /// The position of message number `n`, counted over all histories.
    fn position(&self, n: usize) -> Position {
        let number = self.starts.partition_point(|start| *start <= n) - 1;
        Position { offset: (n + 1 - self.starts[number]) as u64, epoch: Self::epoch(number) }
    }

    /// The number of messages up to a position, counted over all histories.
    fn count(&self, position: Position) -> usize {
        let number = (0..self.starts.len()).find(|number| Self::epoch(*number) == position.epoch);
        let number = number.expect("an epoch that there never was");
        let count = self.starts[number] + usize::try_from(position.offset).unwrap();
        let end = self.starts.get(number + 1).copied().unwrap_or(self.messages.len());
        assert!(count <= end, "no message stands at {position:?}");
        count
    }

    /// Whether everything asked for could be replayed now.
    fn reaches_back_to(&self, ask: &Recovery) -> bool {
        let head = self.head();
        let is_its_epoch = ask.epoch.as_ref().is_none_or(|epoch| *epoch == head.epoch.to_string());
        is_its_epoch && ask.offset <= head.offset && ask.offset + 1 >= self.oldest
    }

    fn extent(&self) -> Extent {
        Extent { head: self.head(), oldest: self.oldest }
    }
}

/// The log as joins see it.
struct SlowLog(Mutex<Histories>);

/// Yields once, so that other steps can run.
async fn pause() {
    let mut is_over = false;
    poll_fn(
        |_| if std::mem::replace(&mut is_over, true) { Poll::Ready(()) } else { Poll::Pending },
    )
    .await;
}

impl Log for SlowLog {
    async fn extent(&self, _: &RoomKey) -> Result<Extent, StoreError> {
        pause().await;
        let extent = self.0.lock().extent();
        pause().await;
        Ok(extent)
    }

    async fn read(&self, _: &RoomKey, query: Query) -> Result<Page, StoreError> {
        pause().await;
        let page = {
            let log = self.0.lock();
            let extent = log.extent();
            let from = extent.oldest.max(query.after + 1);
            let to = extent.head.offset.min(from + query.limit as u64 - 1);
            let items = (from..=to).map(|offset| {
                let (entry, except) = log.messages[log.count(extent.head.at(offset)) - 1].clone();
                Stored { offset, entry, except, receipts: Vec::new() }
            });
            Page { items: items.collect(), extent, complete: to >= extent.head.offset }
        };
        pause().await;
        Ok(page)
    }
}

/// What happens to one client.
#[derive(Debug)]
enum Event {
    Asked(Asked),
    /// It has entered; with the number of losses so far.
    Entered(JoinPosition, usize),
    /// The join failed.
    Failed,
    /// It gets message number `n`, counted over all histories.
    Message(usize),
    /// It has left; with the number of messages delivered so far.
    Left(usize),
    CutOff,
}

/// A client asks to enter.
#[derive(Debug, Clone)]
struct Asked {
    /// The number of messages stored so far.
    stored: usize,
    /// The number of losses so far.
    losses: usize,
    /// The number of messages before the oldest one that was still there.
    trimmed: usize,
    recover: Option<Recovery>,
    /// Whether that could be replayed.
    reaches_back: bool,
}

#[derive(Debug, Default)]
struct Record(Mutex<Vec<Event>>);

impl Observer for Record {
    fn sent(&self, _: &Arc<str>, _: &ClientId, packet: &Packet) {
        let message: Value = serde_json::from_str(&packet.payload().json()).unwrap();
        if let Some(number) = message["n"].as_u64() {
            self.0.lock().push(Event::Message(usize::try_from(number).unwrap()));
        }
    }
}

type Joining = Pin<Box<dyn Future<Output = Result<(), Refusal>>>>;

struct Person {
    client: Arc<Client>,
    record: Arc<Record>,
    joining: Option<Joining>,
}

struct World {
    log: Arc<SlowLog>,
    limit: u64,
    namespace: Arc<Namespace>,
    fanout: Fanout,
    wire: Wire,
    name: RoomName,
    people: Vec<Person>,
    /// Messages that are stored and not delivered yet.
    stream: VecDeque<Committed>,
    delivered: usize,
}

impl World {
    fn new(limit: u64) -> Self {
        let registry = Arc::new(Registry::new(&["/".to_owned()], 0));
        let namespace = registry.namespaces()[0].clone();
        let hour = Duration::from_hours(1);
        let limits = transport::Limits {
            send_buffer: usize::MAX,
            send_timeout: hour,
            heartbeat: hour,
            max_message: usize::MAX,
        };
        let memory =
            Memory::new(memory::Limits { outgoing: usize::MAX, incoming: usize::MAX, process: 0 });
        let wire = Wire::new(limits, memory);
        let metrics = Arc::new(Metrics::default());
        let fanout = Fanout::new(registry, metrics, wire.clone());
        let mut log = Histories::default();
        log.restart();
        let mut world = Self {
            log: Arc::new(SlowLog(Mutex::new(log))),
            limit,
            namespace,
            fanout,
            wire,
            name: RoomName::parse("r").unwrap(),
            people: Vec::new(),
            stream: VecDeque::new(),
            delivered: 0,
        };
        world.people = (0..PEOPLE).map(|_| world.newcomer()).collect();
        world
    }

    fn newcomer(&self) -> Person {
        let (id, record) = (ClientId::make(), Arc::new(Record::default()));
        let path = self.namespace.path.clone();
        let sender = ClientSender::without_socket(
            id.clone(),
            path,
            self.wire.clone(),
            record.clone(),
            |_| (),
        );
        let session = Session::anonymous(&Config::default());
        let client = Client::new(id, self.namespace.clone(), "c".into(), 4, None, sender, session);
        Person { client: Arc::new(client), record, joining: None }
    }

    fn send(&mut self, count: usize, but: Option<usize>) {
        let mut log = self.log.0.lock();
        for at in 0..count {
            let except = but.filter(|_| at == 0).map(|who| self.people[who].client.id.clone());
            let n = log.messages.len();
            let entry = Entry {
                id: n.to_string(),
                event: "e".into(),
                json: format!(r#"{{"n":{n}}}"#).into(),
                attachments: Vec::new(),
                timestamp_ms: 0,
            };
            let except = Except::client(except);
            log.messages.push((entry.clone(), except.clone()));
            let room = self.namespace.key(&self.name);
            self.stream.push_back(Committed {
                room,
                position: log.head(),
                entry: entry.into(),
                except,
            });
        }
    }

    fn deliver(&mut self, count: usize) {
        for _ in 0..count {
            let Some(committed) = self.stream.pop_front() else { break };
            self.fanout.committed(&committed);
            self.delivered += 1;
        }
    }

    /// Replaces every client that was cut off by a newcomer; returns the clients that were.
    fn replace_cut_off(&mut self) -> Vec<(ClientId, Arc<Record>)> {
        let mut gone = Vec::new();
        for who in 0..PEOPLE {
            let probe = Packet::of("probe", &());
            if self.people[who].client.sender.send(&probe).is_taken() {
                continue;
            }
            let newcomer = self.newcomer();
            let before = std::mem::replace(&mut self.people[who], newcomer);
            before.record.0.lock().push(Event::CutOff);
            drop(before.joining);
            self.leave(&before.client);
            gone.push((before.client.id.clone(), before.record));
        }
        gone
    }

    fn leave(&self, client: &Client) {
        if let Some(room) = self.namespace.room(self.name.as_str()) {
            room.lock().remove(client);
            self.namespace.retire(&room);
        }
    }

    fn is_member(&self, who: usize) -> bool {
        let room = self.namespace.room(self.name.as_str());
        room.is_some_and(|room| room.lock().contains(&self.people[who].client.id))
    }

    fn begin_join(&mut self, who: usize, ask: &Ask) {
        // A new room subscribes anew, so it receives nothing of an epoch that is over.
        if self.namespace.room(self.name.as_str()).is_none() {
            let epoch = self.log.0.lock().head().epoch;
            while self.stream.front().is_some_and(|next| next.position.epoch != epoch) {
                self.deliver(1);
            }
        }
        let person = &self.people[who];
        if person.joining.is_some() {
            return;
        }
        let (log, limit, name) = (self.log.clone(), self.limit, self.name.clone());
        let (client, record) = (person.client.clone(), person.record.clone());
        let known = Judge::of(&log.0.lock(), client.id.clone(), &record.0.lock()).has;
        let recover = match ask {
            Ask::Nothing => None,
            Ask::After(offset) => Some(Recovery { offset: *offset, epoch: None }),
            Ask::Rest => known.map(|Position { offset, epoch }| Recovery {
                offset,
                epoch: Some(epoch.to_string()),
            }),
        };
        let asked = {
            let log = log.0.lock();
            let reaches_back = recover.as_ref().is_some_and(|ask| log.reaches_back_to(ask));
            Asked {
                stored: log.messages.len(),
                losses: log.losses,
                trimmed: log.trimmed(),
                recover: recover.clone(),
                reaches_back,
            }
        };
        record.0.lock().push(Event::Asked(asked));
        self.people[who].joining = Some(Box::pin(async move {
            let held = Held::begin(&client, &name)?;
            let entered = |state: &mut RoomState, _: &Arc<Room>, position: &JoinPosition| {
                if !state.contains(&client.id) {
                    state.insert(client.clone(), EventStyle::Dashed);
                }
                let losses = log.0.lock().losses;
                record.0.lock().push(Event::Entered(position.clone(), losses));
            };
            enter_from(&*log, &held, recover.as_ref(), limit, entered).await
        }));
        // Delivery is paused from now on.
        self.poll(who, 1);
    }

    fn poll(&mut self, who: usize, looks: usize) {
        for _ in 0..looks {
            let Some(joining) = &mut self.people[who].joining else { return };
            let context = &mut Context::from_waker(Waker::noop());
            if let Poll::Ready(done) = joining.as_mut().poll(context) {
                done.unwrap();
                self.people[who].joining = None;
            }
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Join(who, ask) => self.begin_join(*who, ask),
            Step::Poll(who, looks) => self.poll(*who, *looks),
            Step::Fail(who) => {
                if let Some(joining) = self.people[*who].joining.take() {
                    self.people[*who].record.0.lock().push(Event::Failed);
                    drop(joining);
                }
            }
            Step::Leave(who) => {
                if self.people[*who].joining.is_none() && self.is_member(*who) {
                    self.leave(&self.people[*who].client);
                    self.people[*who].record.0.lock().push(Event::Left(self.delivered));
                }
            }
            Step::Send(count, but) => {
                self.send(*count, *but);
                if *count == BURST {
                    self.deliver(usize::MAX);
                }
            }
            Step::Deliver(count) => self.deliver(*count),
            Step::Trim(count) => {
                let mut log = self.log.0.lock();
                log.oldest = (log.oldest + count).min(log.head().offset + 1);
                log.losses += 1;
            }
            Step::Restart { is_late } => {
                // A room that received nothing of an epoch cannot tell its messages from the next one's.
                let has_heard = self.delivered > *self.log.0.lock().starts.last().unwrap();
                let is_late = *is_late && has_heard && (0..PEOPLE).any(|who| self.is_member(who));
                if !is_late {
                    self.deliver(usize::MAX);
                }
                self.log.0.lock().restart();
            }
        }
    }

    /// Runs everything to its end.
    fn finish(&mut self) {
        for who in 0..PEOPLE {
            self.poll(who, 10_000);
            assert!(self.people[who].joining.is_none(), "a join never ends");
        }
        self.deliver(usize::MAX);
    }
}

/// Goes through one client's events. Panics if a message is missing, comes twice, out of order, or to an
/// excluded client.
struct Judge<'a> {
    log: &'a Histories,
    id: ClientId,
    /// The position up to which it has everything, as far as it can know.
    has: Option<Position>,
    is_member: bool,
    joining: Option<(Asked, Vec<usize>)>,
    /// It may be cut off.
    is_lost: bool,
}

impl<'a> Judge<'a> {
    fn of(log: &'a Histories, id: ClientId, events: &[Event]) -> Self {
        let (has, is_member, joining, is_lost) = (None, false, None, false);
        let mut judge = Self { log, id, has, is_member, joining, is_lost };
        for event in events {
            judge.hear(event);
        }
        judge
    }

    fn count(&self) -> usize {
        self.has.map_or(0, |has| self.log.count(has))
    }

    /// The messages between these two that must be delivered to it.
    fn due(&self, from: usize, to: usize) -> Vec<usize> {
        let left_out = |n: &usize| self.log.messages[*n].1.clients.contains(&self.id);
        (from..to).filter(|n| !left_out(n)).collect()
    }

    fn hear(&mut self, event: &Event) {
        match event {
            Event::Asked(asked) => self.joining = Some((asked.clone(), Vec::new())),
            Event::Message(n) => {
                if let Some((_, got)) = &mut self.joining {
                    return got.push(*n);
                }
                assert!(self.is_member, "{n} comes to one that is no member");
                assert_eq!(
                    self.due(self.count(), n + 1),
                    [*n],
                    "missing or twice, after {:?}",
                    self.has
                );
                self.has = Some(self.log.position(*n));
            }
            Event::Entered(position, losses) => self.enter(position, *losses),
            Event::Failed => {
                self.joining = None;
                self.is_lost = true;
            }
            Event::Left(delivered) => {
                assert_eq!(self.due(self.count(), *delivered), [0; 0], "missing as it leaves");
                self.is_member = false;
            }
            Event::CutOff => {
                assert!(self.is_lost || self.joining.is_some(), "cut off for nothing");
                self.is_member = false;
            }
        }
    }

    fn enter(&mut self, entered: &JoinPosition, losses: usize) {
        let (asked, got) = self.joining.take().unwrap();
        let position = entered.position.unwrap();
        let reached = self.log.count(position);
        // Nothing was lost during the join. A member is still in the epoch that it was in, and nothing that it
        // lacked was trimmed before it asked.
        let was_in = self.has.filter(|_| self.is_member);
        let is_whole = losses == asked.losses
            && was_in.is_none_or(|at| at.epoch == position.epoch)
            && (!self.is_member || self.count() >= asked.trimmed);
        let recovered = entered.recovery.as_ref().filter(|recovery| recovery.recovered);
        if let (Some(recovery), Some(ask)) = (recovered, &asked.recover) {
            let after = self.log.count(position.at(ask.offset));
            assert_eq!(got, (after..reached).collect::<Vec<_>>(), "the replay");
            assert_eq!(recovery.missed, (reached - after) as u64);
        } else {
            assert!(!(is_whole && asked.reaches_back), "it could be recovered");
            if self.is_member {
                assert!(reached >= self.count(), "it is put back to {position:?}");
                if is_whole {
                    assert_eq!(got, self.due(self.count(), reached), "what is delivered late");
                }
            } else {
                assert!(reached >= asked.stored, "it enters before the head: {position:?}");
                assert!(!is_whole || got.is_empty(), "it asked for nothing");
            }
        }
        self.has = Some(position);
        self.is_member = true;
        self.is_lost = !is_whole;
    }
}

fn run(steps: &[Step], limit: u64) {
    let mut world = World::new(limit);
    let mut gone = Vec::new();
    for step in steps {
        world.take(step);
        gone.extend(world.replace_cut_off());
    }
    world.finish();
    gone.extend(world.replace_cut_off());
    let log = world.log.0.lock();
    for (id, record) in gone {
        Judge::of(&log, id, &record.0.lock());
    }
    for person in &world.people {
        let events = person.record.0.lock();
        let judge = Judge::of(&log, person.client.id.clone(), &events);
        if judge.is_member {
            assert_eq!(judge.due(judge.count(), log.messages.len()), [0; 0], "missing: {events:?}");
        }
    }
}

#[test]
fn every_member_gets_what_it_must_get() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config =
        ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    let steps = proptest::collection::vec(step(), 1..60);
    TestRunner::new(config)
        .run(&(steps, any::<bool>()), |(steps, is_limited)| {
            let _inside = runtime.enter();
            run(&steps, if is_limited { 1_000_000 } else { 0 });
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_member_that_joins_again_lacks_what_was_trimmed_before() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let join = || Step::Join(2, Ask::Nothing);
    let steps = [
        join(),
        Step::Poll(2, 2),
        Step::Send(1, None),
        Step::Trim(1),
        join(),
        Step::Send(BURST, None),
    ];
    run(&steps, 0);
}
