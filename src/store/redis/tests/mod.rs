//! What only the store in Redis does.

mod leaving;
mod lists;
mod losses;
mod outages;
mod shards;
mod sharing;

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::SeqCst};

use redis::Value;

use super::*;
use crate::{
    protocol::{audience::Except, epoch::Epoch, position::Position},
    store::{
        Append, Backend, DecodeError, Location, Pending, Query, Store, room_channel,
        tests::{ALL, room, sender, server::RedisServer, settings as embedded_settings, user},
    },
};

const PREFIX: &str = "test";

/// Some nodes on one server.
struct World {
    server: RedisServer,
    settings: Settings,
    clock: Arc<AtomicI64>,
    nodes: AtomicU32,
}

impl World {
    fn start() -> Self {
        Self::start_with(&[])
    }

    /// Nodes on a server with further settings.
    fn start_with(arguments: &'static [&'static str]) -> Self {
        let clock = Arc::new(AtomicI64::new(1_000_000));
        let settings = embedded_settings(Location::Memory, &clock);
        let server = RedisServer::start_with(arguments);
        Self { server, settings, clock, nodes: AtomicU32::new(0) }
    }

    fn node(&self) -> Store {
        self.tuned(|_| {})
    }

    fn tuned(&self, change: impl FnOnce(&mut Tuning)) -> Store {
        let mut tuning = Tuning { tick: Duration::from_millis(5), ..Tuning::default() };
        change(&mut tuning);
        let node = format!("node-{}", self.nodes.fetch_add(1, SeqCst));
        let redis = RedisSettings { node, ..self.server.settings(PREFIX) };
        let redis = Shards::start(&self.settings, &redis, tuning);
        Store { backend: Backend::Redis(Arc::new(redis)) }
    }

    fn entry(&self, id: &str) -> Entry {
        Entry {
            id: id.into(),
            event: "message".into(),
            json: "{}".into(),
            attachments: vec![],
            timestamp_ms: self.settings.clock.now_ms(),
        }
    }

    fn submit(&self, node: &Store, id: &str) -> Pending<Position> {
        let append = Append {
            room: room("a"),
            entry: self.entry(id),
            except: Except::nobody(),
            sender: None,
            webhook: None,
        };
        node.append(append)
    }

    async fn append(&self, node: &Store, id: &str) -> Position {
        self.submit(node, id).await.unwrap()
    }
}

/// Waits until the health is as wanted.
async fn until(node: &Store, is: impl Fn(&Health) -> bool) -> Health {
    let waited = async {
        loop {
            let health = node.health();
            if is(&health) {
                return health;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.unwrap()
}

async fn until_working(node: &Store) {
    until(node, |health| *health == Health::Working).await;
}

async fn until_failing(node: &Store) -> String {
    match until(node, |health| matches!(health, Health::Failing { .. })).await {
        Health::Failing { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

async fn ids(node: &Store) -> Vec<String> {
    let page = node.read(&room("a"), ALL).await.unwrap();
    let in_order = page.items.iter().zip(page.extent.oldest..);
    assert!(in_order.clone().all(|(item, offset)| item.offset == offset), "no gap");
    in_order.map(|(item, _)| item.entry.id.clone()).collect()
}

fn is_unavailable<T: fmt::Debug>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable(_)))
}
