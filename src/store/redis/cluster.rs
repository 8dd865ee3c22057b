//! A Redis Cluster, as places: each is what an independent instance is elsewhere, but all its keys share one hash slot.
//! So a script touches one slot, and a place goes where its slot goes.
//!
//! All known nodes are asked at once who serves which slot; all places share the answers. The greatest configuration
//! epoch counts: a node that takes over a slot gets a greater one than any other has.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use futures_util::future::join_all;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, RedisResult, Value, pipe};
use tokio::time::{Duration, Instant, timeout};
use url::Url;

use super::primary::{ANSWER, Answer, with_host};
use crate::config::ClusterUrl;

/// What stands between the braces of each place's keys. Their slots are spread evenly: nodes that serve equal ranges serve
/// equally many places, give or take one. Which rooms are where follows from the list, so it never changes.
const TAGS: [&str; 16] =
    ["10", "3", "61", "43", "11", "2", "60", "42", "12", "1", "63", "41", "13", "0", "62", "40"];
/// How many slots a Redis Cluster has.
const SLOTS: u16 = 16_384;
/// How long an answer may be used again: all places ask at about the same time.
const FRESH: Duration = Duration::from_millis(200);
/// How many nodes are asked, at most, besides those that `REDIS_URL` names.
const ASKED: usize = 32;

/// The nodes of a Redis Cluster.
pub(super) struct Nodes {
    /// Those that `REDIS_URL` names.
    seeds: Vec<Url>,
    asked: tokio::sync::Mutex<Asked>,
}

/// What the nodes said when they were last asked.
#[derive(Default)]
struct Asked {
    at: Option<Instant>,
    answers: Arc<[RedisResult<Slots>]>,
}

/// What one node says.
#[derive(Default)]
struct Slots {
    /// Who serves which slots, from the first to the last.
    owners: Vec<(u16, u16, Answer)>,
    /// All nodes that serve any, and their replicas.
    known: Vec<(String, u16)>,
}

/// Where a place's keys are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub tag: &'static str,
    number: u16,
}

impl Slot {
    /// Those of all places.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        TAGS.iter().map(|tag| Self { tag, number: slot_of(tag) })
    }
}

/// The slot of a tag: CRC-16 as in XMODEM.
fn slot_of(tag: &str) -> u16 {
    let step = |crc: u16, byte: u8| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            (crc << 1) ^ (if crc & 0x8000 == 0 { 0 } else { 0x1021 })
        })
    };
    tag.bytes().fold(0, step) % SLOTS
}

impl Nodes {
    pub(super) fn new(url: ClusterUrl) -> RedisResult<Self> {
        // What is wrong with it shows at once.
        Client::open(url.nodes[0].as_str())?;
        Ok(Self { seeds: url.nodes, asked: tokio::sync::Mutex::default() })
    }

    /// The URL of a node, whose host and port are any.
    pub(super) fn url(&self) -> &Url {
        &self.seeds[0]
    }

    /// Who serves this slot, as each node says.
    pub(super) async fn owner(&self, slot: Slot) -> Vec<RedisResult<Answer>> {
        let answers = self.ask_all().await;
        let owner = |answer: &RedisResult<Slots>| {
            let slots = answer.as_ref().map_err(Clone::clone)?;
            let has =
                |(first, last, _): &&(u16, u16, Answer)| (*first..=*last).contains(&slot.number);
            let unserved = || {
                let detail = format!("slot {}", slot.number);
                RedisError::from((ErrorKind::Io, "no node serves the slot of its keys", detail))
            };
            slots.owners.iter().find(has).map(|(.., owner)| owner.clone()).ok_or_else(unserved)
        };
        answers.iter().map(owner).collect()
    }

    async fn ask_all(&self) -> Arc<[RedisResult<Slots>]> {
        let mut asked = self.asked.lock().await;
        if asked.at.is_none_or(|at| at.elapsed() >= FRESH) {
            let known = asked.answers.iter().flatten().flat_map(|slots| &slots.known);
            let known = known.collect::<BTreeSet<_>>().into_iter();
            let urls = known.filter_map(|(host, port)| with_host(self.url(), host, *port).ok());
            let is_other = |url: &Url| !self.seeds.contains(url);
            let urls = urls.filter(is_other).take(ASKED).collect::<Vec<_>>();
            let answers = self.seeds.iter().chain(&urls).map(async |url| {
                let late = || RedisError::from((ErrorKind::Io, "a node did not answer in time"));
                timeout(ANSWER, ask(url)).await.map_err(|_| late())?
            });
            asked.answers = join_all(answers).await.into();
            asked.at = Some(Instant::now());
        }
        asked.answers.clone()
    }
}

async fn ask(url: &Url) -> RedisResult<Slots> {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER));
    let client = Client::open(url.as_str())?;
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    let mut ask = pipe();
    // The first one has the epochs; the second one has the hosts and ports by which clients are to come.
    ask.cmd("CLUSTER").arg("NODES").cmd("CLUSTER").arg("SLOTS");
    let (nodes, slots): (String, Vec<Vec<Value>>) = ask.query_async(&mut connection).await?;
    let epochs = nodes.lines().filter_map(|line| {
        let fields = line.split(' ').collect::<Vec<_>>();
        Some((*fields.first()?, fields.get(6)?.parse().ok()?))
    });
    let epochs = epochs.collect::<HashMap<&str, u64>>();
    let mut all = Slots::default();
    for range in &slots {
        let [Value::Int(first), Value::Int(last), serving @ ..] = &range[..] else { continue };
        let serving = serving.iter().filter_map(|node| server(node, url)).collect::<Vec<_>>();
        // The replicas follow.
        if let Some((host, port, id)) = serving.first() {
            let epoch = epochs.get(id.as_str()).copied().unwrap_or(0);
            let owner = Answer { epoch, host: host.clone(), port: *port };
            let number = |slot: &i64| u16::try_from(*slot).unwrap_or(SLOTS);
            all.owners.push((number(first), number(last), owner));
        }
        all.known.extend(serving.into_iter().map(|(host, port, _)| (host, port)));
    }
    Ok(all)
}

/// A node's host, port and id. One that does not know its own host is where it was asked.
fn server(node: &Value, asked: &Url) -> Option<(String, u16, String)> {
    let Value::Array(fields) = node else { return None };
    let text = |value: &Value| match value {
        Value::BulkString(text) => String::from_utf8(text.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    };
    let [host, Value::Int(port), id, ..] = &fields[..] else { return None };
    let host = text(host).filter(|host| !host.is_empty() && host != "?");
    let host = host.or_else(|| Some(asked.host_str()?.trim_matches(['[', ']']).to_owned()))?;
    Some((host, u16::try_from(*port).ok()?, text(id)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_has_the_slot_that_redis_gives_it() {
        // As `CLUSTER KEYSLOT` says.
        for (tag, slot) in [("123456789", 12_739), ("1", 9_842), ("foo", 12_182)] {
            assert_eq!(slot_of(tag), slot, "{tag}");
        }
    }

    #[test]
    fn places_are_spread_evenly_over_the_slots() {
        let places = Slot::all().map(|slot| slot.number / (SLOTS / 16)).collect::<Vec<_>>();
        assert_eq!(places, (0..16).collect::<Vec<_>>());
    }
}
