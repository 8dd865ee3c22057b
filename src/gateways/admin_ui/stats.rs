//! Counts: what operators see in every mode.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;
use serde::Serialize;

use crate::{config::ADMIN_NAMESPACE, hub::Registry, protocol::timestamp::Timestamp};

/// What has happened since the counts were last taken. A client of two namespaces counts twice; bytes are
/// those of events, without acks and frames.
#[derive(Debug, Default)]
pub(super) struct Counts {
    connections: AtomicU64,
    disconnections: Mutex<HashMap<&'static str, u64>>,
    packets_in: AtomicU64,
    bytes_in: AtomicU64,
    packets_out: AtomicU64,
    bytes_out: AtomicU64,
}

/// The count of one kind.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Aggregated {
    timestamp: i64,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub_type: Option<&'static str>,
    count: u64,
}

impl Counts {
    /// A client has connected.
    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A client has gone.
    pub(super) fn disconnected(&self, reason: &'static str) {
        *self.disconnections.lock().entry(reason).or_default() += 1;
    }

    /// An event of that many bytes has come.
    pub(super) fn received(&self, bytes: usize) {
        self.packets_in.fetch_add(1, Ordering::Relaxed);
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// An event of that many bytes has been handed to a client.
    pub(super) fn sent(&self, bytes: usize) {
        self.packets_out.fetch_add(1, Ordering::Relaxed);
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Takes the counts and resets them to zero.
    pub(super) fn take(&self, now: Timestamp) -> Vec<Aggregated> {
        let timestamp = now.as_millis() / 1000 * 1000;
        let mut taken = Vec::new();
        let mut note = |r#type, sub_type, count| {
            if count > 0 {
                taken.push(Aggregated { timestamp, r#type, sub_type, count });
            }
        };
        let swap = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        note("rawConnection", None, swap(&self.connections));
        for (reason, count) in mem::take(&mut *self.disconnections.lock()) {
            note("rawDisconnection", Some(reason), count);
        }
        note("packetsIn", None, swap(&self.packets_in));
        note("bytesIn", None, swap(&self.bytes_in));
        note("packetsOut", None, swap(&self.packets_out));
        note("bytesOut", None, swap(&self.bytes_out));
        taken
    }
}

/// The process, as operators tell it from others.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// The host's name and the port: stable over restarts, and distinct for two processes of one machine.
    id: String,
    hostname: String,
    started: Instant,
}

impl Node {
    /// This process, which listens on `port`.
    pub(super) fn of_process(port: u16) -> Self {
        // The standard library has no call for the host's name.
        let named = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let named = named.or_else(|| std::env::var("HOSTNAME").ok());
        let hostname = named.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        let hostname = hostname.unwrap_or_else(|| "localhost".to_owned());
        Self { id: format!("{hostname}:{port}"), hostname, started: Instant::now() }
    }
}

/// The argument of `server_stats`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServerStats<'a> {
    server_id: &'a str,
    hostname: &'a str,
    pid: u32,
    uptime: f64,
    clients_count: usize,
    polling_clients_count: usize,
    aggregated_events: Vec<Aggregated>,
    namespaces: Vec<Named>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    name: Arc<str>,
    sockets_count: usize,
}

impl<'a> ServerStats<'a> {
    /// The figures at this moment; `admins` is the number of operators.
    pub(super) fn now(
        node: &'a Node,
        registry: &'a Registry,
        admins: usize,
        aggregated_events: Vec<Aggregated>,
    ) -> Self {
        // A connection may be in several namespaces.
        let (mut all, mut polling) = (HashSet::new(), HashSet::new());
        let mut namespaces = Vec::new();
        for namespace in registry.namespaces() {
            let clients = namespace.clients();
            namespaces.push(Named { name: namespace.path.clone(), sockets_count: clients.len() });
            for client in clients {
                all.insert(client.sender.account().id());
                if client.sender.transport() == "polling" {
                    polling.insert(client.sender.account().id());
                }
            }
        }
        namespaces.push(Named { name: ADMIN_NAMESPACE.into(), sockets_count: admins });
        Self {
            server_id: &node.id,
            hostname: &node.hostname,
            pid: std::process::id(),
            uptime: node.started.elapsed().as_secs_f64(),
            clients_count: all.len(),
            polling_clients_count: polling.len(),
            aggregated_events,
            namespaces,
        }
    }
}
