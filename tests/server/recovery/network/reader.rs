//! A client as socket.io-client is one, with an application that joins its rooms, and what that application has seen.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde_json::{Value, json};

use super::{LIMIT, ROOMS, USER, Written, proxy::Network, random::Random};

/// What the application asks for once, where the answer to it may be lost with the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Wish {
    Join(&'static str),
    BeUser,
}

/// A reader.
pub(super) struct Reader {
    pub(super) random: Random,
    pub(super) http: reqwest::Client,
    written: Arc<Written>,
    pid: Option<String>,
    offset: Option<String>,
    /// What was granted to this session.
    granted: HashSet<Wish>,
    /// What was asked for on this connection, by the number of the acknowledgement.
    asked: HashMap<u64, Wish>,
    asks: u64,
    /// The newest number of each sequence, since it last was a new client.
    newest: HashMap<&'static str, u64>,
    /// The same, from before that.
    before: HashMap<&'static str, u64>,
    /// How much it had missed when it last asked to connect.
    behind: u64,
    pub(super) recovered: u64,
    pub(super) fresh: u64,
    /// How often it was a new client though it had not missed much.
    pub(super) unexplained: u64,
    pub(super) seen: u64,
    /// How many messages of rooms were written while it was away, or were on their way, when it recovered.
    pub(super) missed: u64,
    pub(super) faults: Vec<String>,
    /// Nothing more is written, and this is its last connection.
    is_last: bool,
}

impl Reader {
    pub(super) fn new(seed: u64, written: Arc<Written>) -> Self {
        Self {
            random: Random::new(seed),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            written,
            pid: None,
            offset: None,
            granted: HashSet::new(),
            asked: HashMap::new(),
            asks: 0,
            newest: HashMap::new(),
            before: HashMap::new(),
            behind: 0,
            recovered: 0,
            fresh: 0,
            unexplained: 0,
            seen: 0,
            missed: 0,
            faults: Vec::new(),
            is_last: false,
        }
    }

    /// How often it has been connected.
    pub(super) fn connections(&self) -> u64 {
        self.recovered + self.fresh
    }

    /// Connects once, and takes what comes until the connection ends. Seldom it stays away for longer than it may.
    pub(super) async fn visit(&mut self, network: &Network) {
        if self.random.chance(2) {
            self.written.more(LIMIT + 100).await;
        }
        tokio::select! {
            _over = self.connect(network) => {}
            () = network.stalled() => {}
        }
    }

    /// Connects once more, until it has everything that was written.
    pub(super) async fn catch_up(&mut self, network: &Network) {
        // The connections of the old one have their fates.
        self.http = reqwest::Client::builder().no_proxy().build().unwrap();
        self.is_last = true;
        while self.connect(network).await.is_none() {}
    }

    /// Whether it has everything that was written to where it is, and nothing more is to come.
    pub(super) fn is_done(&self) -> bool {
        let has_all =
            || self.newest.iter().all(|(name, number)| *number == self.written.newest(name));
        self.is_last && self.granted.len() == ROOMS.len() + 1 && has_all()
    }

    /// What it says to connect.
    pub(super) fn hello(&mut self) -> String {
        let rooms = self.newest.iter().filter(|(name, _)| ROOMS.contains(name));
        let behind = rooms.map(|(name, number)| self.written.newest(name).saturating_sub(*number));
        self.behind = behind.sum();
        match (&self.pid, &self.offset) {
            (None, _) => "40".to_owned(),
            (Some(pid), None) => format!("40{}", json!({"pid": pid})),
            (Some(pid), Some(offset)) => format!("40{}", json!({"pid": pid, "offset": offset})),
        }
    }

    /// Takes a packet; returns the answers.
    pub(super) fn take(&mut self, text: &str) -> Vec<String> {
        if text == "2" {
            return vec!["3".to_owned()];
        }
        match text.get(..2) {
            Some("40") => return self.connected(&parsed(&text[2..])),
            Some("42") => self.take_event(&parsed::<Vec<Value>>(&text[2..])),
            Some("43") => self.take_answer(&text[2..]),
            Some("44" | "41") => self.faults.push(text.to_owned()),
            _ => {}
        }
        Vec::new()
    }

    fn connected(&mut self, answer: &Value) -> Vec<String> {
        let pid = answer["pid"].as_str().map(str::to_owned);
        assert!(pid.is_some(), "{answer}");
        if self.pid == pid {
            self.recovered += 1;
            self.missed += self.behind;
        } else {
            // What is told to all counts, too, and what was on its way.
            let is_far_behind = self.pid.is_none() || self.behind > LIMIT / 2;
            self.unexplained += u64::from(!is_far_behind);
            (self.pid, self.fresh) = (pid, self.fresh + 1);
            self.before.extend(self.newest.drain());
            self.granted.clear();
        }
        self.asked.clear();
        let wishes = ROOMS.into_iter().map(Wish::Join).chain([Wish::BeUser]);
        let missing = wishes.filter(|wish| !self.granted.contains(wish)).collect::<Vec<_>>();
        missing.into_iter().map(|wish| self.ask(wish)).collect()
    }

    fn ask(&mut self, wish: Wish) -> String {
        self.asks += 1;
        self.asked.insert(self.asks, wish);
        let event = match wish {
            Wish::Join(room) => json!(["join-room", {"roomName": room}]),
            Wish::BeUser => json!(["authenticate", {"userId": USER}]),
        };
        format!("42{}{event}", self.asks)
    }

    fn take_answer(&mut self, text: &str) {
        let (id, ack) = text.split_at(text.find('[').unwrap());
        let [ack] = &parsed::<Vec<Value>>(ack)[..] else { panic!("{text}") };
        let Some(wish) = id.parse().ok().and_then(|id: u64| self.asked.remove(&id)) else {
            return self.faults.push(format!("nobody asked: {text}"));
        };
        if ack["success"] != true {
            return self.faults.push(text.to_owned());
        }
        self.granted.insert(wish);
        if let Wish::Join(room) = wish {
            let offset = ack["offset"].as_u64().unwrap();
            let has = *self.newest.entry(room).or_insert(offset);
            let before = self.before.get(room).copied().unwrap_or_default();
            if has != offset || offset < before {
                self.fault(&format!("{room}: joined at {offset} with {has} and {before}"));
            }
        }
    }

    fn take_event(&mut self, event: &[Value]) {
        if let Some(Value::String(offset)) = event.last() {
            self.offset = Some(offset.clone());
        }
        let (name, number) = match event[0].as_str().unwrap() {
            "message-reply" => (event[1]["roomName"].as_str().unwrap(), &event[1]["offset"]),
            "told" => ("told", &event[1]["n"]),
            "private-message" => ("private", &event[1]["message"]["content"]),
            _ => return,
        };
        let sequence = self.written.newest.get_key_value(name).unwrap().0;
        let number = number.as_u64().unwrap();
        self.seen += 1;
        match self.newest.insert(sequence, number) {
            Some(before) if number != before + 1 => {
                self.fault(&format!("{sequence}: {number} after {before}"));
            }
            // A new client is sent nothing of a room from before its join.
            None if ROOMS.contains(sequence) && self.before.get(sequence) >= Some(&number) => {
                self.fault(&format!("{sequence}: {number} once more"));
            }
            _ => {}
        }
    }

    fn fault(&mut self, what: &str) {
        let (recovered, fresh) = (self.recovered, self.fresh);
        self.faults.push(format!("{what}, connection {}, client {fresh}", recovered + fresh));
    }
}

fn parsed<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
