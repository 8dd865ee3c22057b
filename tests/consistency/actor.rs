//! A client: does its steps, whatever becomes of its connection, and recovers as the README's helper does.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{sync::oneshot, time::sleep};

use crate::{
    checker::owed,
    history::{ClientNo, Event, History},
    link::{Link, Positions, answered},
    schedule::{Kind, ROOMS, Step, Visit},
    support::token_for,
    world::Reach,
};

/// How long everything may be away before a client is taken to be stuck.
const STUCK: Duration = Duration::from_secs(90);
/// How many messages of one client may wait for their acknowledgements.
const UNDER_WAY: usize = 16;
/// How many pages are read at a time.
const PAGES: usize = 5;

pub struct Actor {
    pub number: ClientNo,
    pub user: String,
    token: String,
    reach: Arc<Reach>,
    history: Arc<History>,
    positions: Positions,
    link: Option<Link>,
    /// The rooms that it is in, or was when its connection broke.
    rooms: BTreeSet<usize>,
    /// How often it has tried to connect: so to one node after the other.
    attempts: usize,
    written: usize,
}

/// The name of a mailbox's user.
pub fn mailbox(number: usize) -> String {
    format!("mailbox-{number}")
}

impl Actor {
    pub fn new(number: ClientNo, user: String, reach: &Arc<Reach>, history: &Arc<History>) -> Self {
        // Clocks jump, and tokens stay good.
        let token = token_for(&user, Duration::from_hours(24 * 3650));
        Self {
            number,
            user,
            token,
            reach: reach.clone(),
            history: history.clone(),
            positions: Positions::default(),
            link: None,
            rooms: BTreeSet::new(),
            attempts: number,
            written: 0,
        }
    }

    /// Does all its steps; stays.
    pub async fn act(mut self, steps: Vec<Step>) -> Self {
        for step in steps {
            if self.act_one(step).await.is_none() {
                self.give_up().await;
            }
            self.reach.steps.fetch_add(1, Ordering::Relaxed);
        }
        self
    }

    /// `None` where the connection broke, or nothing was answered.
    async fn act_one(&mut self, step: Step) -> Option<()> {
        self.come_back().await;
        let link = self.link.as_ref()?;
        match step {
            Step::Join(room) | Step::JoinAgain(room) if self.rooms.contains(&room) => {
                answered(link.join(ROOMS[room], true, false)).await?;
            }
            Step::Join(room) | Step::JoinAgain(room) => {
                let recovers = matches!(step, Step::JoinAgain(_));
                if answered(link.join(ROOMS[room], false, recovers)).await? {
                    self.rooms.insert(room);
                }
            }
            Step::Leave(room) if self.rooms.remove(&room) => {
                answered(link.leave(ROOMS[room])).await?;
            }
            Step::Send { room, count, kind: Kind::Broadcast(left_out) } => {
                for _ in 0..count.min(5) {
                    self.broadcast(room, left_out).await;
                }
            }
            Step::Send { room, count, kind } => self.send(room, count, kind).await?,
            Step::Private { mailbox: of, count } => {
                for _ in 0..count {
                    let id = self.id();
                    // Refused is as good as sent: it is noted.
                    let _ = answered(self.link.as_ref()?.private(&mailbox(of), &id)).await?;
                }
            }
            Step::Page(room) if !self.rooms.contains(&room) => {
                let mut after = 0;
                for _ in 0..PAGES {
                    match answered(link.page(ROOMS[room], after, 500)).await? {
                        Ok(Some(next)) => after = next,
                        Ok(None) | Err(_) => break,
                    }
                }
            }
            Step::Leave(_) | Step::Page(_) => {}
            Step::Vanish => self.give_up().await,
            Step::Disconnect => self.link.take()?.disconnect().await,
            Step::Doze(time) => {
                link.stop_reading();
                sleep(Duration::from_millis(time)).await;
                link.read_on();
            }
            Step::Rest(time) => sleep(Duration::from_millis(time)).await,
        }
        Some(())
    }

    /// Ends the connection, if there is one, without a word.
    async fn give_up(&mut self) {
        if let Some(link) = self.link.take() {
            link.vanish().await;
        }
    }

    /// Connects, if it is not connected, to one node after the other, and recovers its rooms.
    pub async fn come_back(&mut self) {
        let begun = Instant::now();
        while self.link.as_ref().is_none_or(|link| !link.stands()) {
            self.reach.present.lock()[self.number] = None;
            assert!(begun.elapsed() < STUCK, "client {} cannot come back", self.number);
            self.give_up().await;
            if self.connect().await && self.recover().await.is_none() {
                self.give_up().await;
            }
            if self.link.is_none() {
                sleep(Duration::from_millis(20)).await;
            }
        }
    }

    async fn connect(&mut self) -> bool {
        let node = self.attempts % self.reach.node_count();
        self.attempts += 1;
        let (address, who) = (self.reach.address(node), (self.number, self.reach.number()));
        let user = (self.user.as_str(), self.token.as_str());
        self.link = Link::open(address, node, user, who, &self.history, &self.positions).await;
        if let Some(link) = &self.link {
            self.reach.present.lock()[self.number] = Some((link.id.clone(), link.number()));
        }
        self.link.is_some()
    }

    async fn recover(&self) -> Option<()> {
        let link = self.link.as_ref()?;
        for room in &self.rooms {
            let begun = Instant::now();
            while !answered(link.join(ROOMS[*room], false, true)).await? {
                assert!(begun.elapsed() < STUCK, "client {} cannot join again", self.number);
                sleep(Duration::from_millis(20)).await;
            }
        }
        Some(())
    }

    /// A new message id, of which no other run step has the same.
    fn id(&mut self) -> String {
        self.written += 1;
        format!("{}-{}", self.number, self.written)
    }

    async fn send(&mut self, room: usize, count: u64, kind: Kind) -> Option<()> {
        let room = ROOMS[room];
        let mut waiting = VecDeque::<oneshot::Receiver<Value>>::new();
        for _ in 0..count {
            let id = self.id();
            let (event, payload) = match kind {
                Kind::Chat => ("sendMessage", json!({"roomId": room, "id": id, "content": "c"})),
                Kind::Update => ("channels", json!({"roomName": room, "id": id})),
                _ => {
                    let omits = kind == Kind::ToOthers;
                    ("message", json!({"roomName": room, "id": id, "omitSender": omits}))
                }
            };
            let link = self.link.as_ref()?;
            let left_out = kind == Kind::ToOthers;
            let sent = answered(link.send(room, &id, event, &payload, left_out)).await?;
            waiting.push_back(sent);
            if waiting.len() >= UNDER_WAY {
                let first = waiting.pop_front()?;
                answered(async { first.await.ok() }).await?;
            }
        }
        for answer in waiting {
            answered(async { answer.await.ok() }).await?;
        }
        Some(())
    }

    /// Lets a backend send, with another client left out as if that one had sent it.
    async fn broadcast(&mut self, room: usize, left_out: ClientNo) {
        self.written += 1;
        let id = format!("{:08x}-0000-4000-8000-{:012x}", self.number, self.written);
        let meant = self.reach.present.lock()[left_out].clone();
        let (client, connection) =
            meant.map_or_else(|| ("nobody".to_owned(), None), |(id, number)| (id, Some(number)));
        let body = json!({
            "id": id, "clientId": client, "clientName": "backend", "roomName": ROOMS[room],
            "messageType": "text", "message": "m", "timestamp": "2024-05-01T12:00:00.000Z",
        });
        let own = self.link.as_ref().map(|link| (self.number, link.number()));
        let event =
            Event::SendAsked { id: id.clone(), room: ROOMS[room].to_owned(), left_out: connection };
        self.history.note(own, event);
        let node = self.written % self.reach.node_count();
        let url = format!("http://{}/messages/broadcast", self.reach.address(node));
        let Ok(answer) = self.reach.http.post(url).json(&body).send().await else { return };
        let status = answer.status();
        let Ok(body) = answer.json::<Value>().await else { return };
        let answer = match body["offset"].as_u64() {
            Some(offset) if status == 201 => Ok(offset),
            _ => Err(status.as_u16().to_string()),
        };
        self.history.note(own, Event::SendAnswered { id, answer });
    }

    /// Sends the last message of a room, until it is taken; its id.
    pub async fn insist(&mut self, room: usize) -> String {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < STUCK, "no message is taken in the end");
            self.come_back().await;
            let (id, before) = (format!("{}-{}", self.number, self.written + 1), self.written);
            let sent = self.send(room, 1, Kind::Message).await;
            let taken = self.history.look(|records| {
                records.iter().rev().any(|record| {
                    matches!(&record.event, Event::SendAnswered { id: of, answer: Ok(_) } if *of == id)
                })
            });
            if taken {
                return id;
            }
            if sent.is_none() {
                self.give_up().await;
            }
            self.written = self.written.max(before + 1);
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until it has the last message of each of its rooms, for as long as anybody would, and asks
    /// where it stands then.
    pub async fn settle(&mut self, last: &[String], deadline: Instant) {
        for room in self.rooms.clone() {
            loop {
                self.come_back().await;
                let has_it = self.link.as_ref().is_some_and(|link| link.has_seen(&last[room]));
                if has_it || Instant::now() > deadline {
                    break;
                }
                sleep(Duration::from_millis(5)).await;
            }
            if let Some(link) = &self.link {
                // What was not answered is missing in the history.
                let _ = answered(link.join(ROOMS[room], true, false)).await;
            }
        }
    }

    /// Reads the whole history of every room.
    pub async fn audit(&mut self) {
        for room in ROOMS {
            let mut after = 0;
            let begun = Instant::now();
            while begun.elapsed() < STUCK {
                self.come_back().await;
                let Some(link) = &self.link else { continue };
                match answered(link.page(room, after, 1000)).await {
                    Some(Ok(Some(next))) => after = next,
                    Some(Ok(None)) => break,
                    Some(Err(_)) => sleep(Duration::from_millis(20)).await,
                    None => self.give_up().await,
                }
            }
        }
    }

    /// Comes and goes.
    pub async fn visit(mut self, visits: Vec<Visit>) -> Self {
        for visit in visits {
            let (Visit::Read(time) | Visit::Cut(time) | Visit::Deaf(time) | Visit::Away(time)) =
                visit;
            if visit != Visit::Away(time) {
                self.connect().await;
            }
            if let Some(link) = self.link.as_ref().filter(|_| visit == Visit::Deaf(time)) {
                link.stop_reading();
            }
            sleep(Duration::from_millis(time)).await;
            match self.link.take() {
                Some(link) if visit == Visit::Read(time) => link.disconnect().await,
                Some(link) => link.vanish().await,
                None => {}
            }
        }
        self
    }

    /// Comes, and stays until everything that was queued for it has come, for as long as anybody would.
    pub async fn collect(&mut self, patience: Duration) {
        let mut news = (0, Instant::now());
        loop {
            self.come_back().await;
            let (missing, received) = self.history.look(|records| owed(records, &self.user));
            if received != news.0 {
                news = (received, Instant::now());
            }
            if missing == 0 || news.1.elapsed() > patience {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}
