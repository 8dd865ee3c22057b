//! Metrics that are computed when they are read, and so cannot drift.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Error,
    sync::Arc,
};

use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use crate::{
    broker::cluster::Cluster, hub::Registry, limits::ConnectionLimiter, memory::Memory,
    protocol::timestamp::Timestamp, store::Store, telemetry::event_log::EventLog,
};

/// A client's namespace, transport and protocol.
type ClientLabels = (Arc<str>, &'static str, u8);

/// Computes the current figures.
#[derive(Debug)]
pub(super) struct LiveFigures {
    pub registry: Arc<Registry>,
    pub store: Option<Store>,
    pub connection_limiter: Arc<ConnectionLimiter>,
    pub event_log: EventLog,
    pub cluster: Option<Cluster>,
    pub memory: Memory,
    pub has_webhooks: bool,
    pub started_at: Timestamp,
    /// Which clients there were, by namespace, transport and protocol.
    pub seen: Mutex<BTreeMap<ClientLabels, i64>>,
}

impl Collector for LiveFigures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut sheet = Sheet(encoder);
        self.connections(&mut sheet)?;
        self.rooms(&mut sheet)?;
        let help = "Online users that have or had clients on this node";
        sheet.gauge("users", help, None, self.registry.users.count())?;
        let uptime = (Timestamp::now().as_millis() - self.started_at.as_millis()) / 1000;
        let uptime = usize::try_from(uptime).unwrap_or(0);
        sheet.gauge("uptime", "Time since the start", Some(&Unit::Seconds), uptime)?;
        runtime(&mut sheet)?;
        let help = "Engine.IO sessions, including those in no namespace";
        sheet.gauge("sessions", help, None, self.connection_limiter.open())?;
        let help = "Clients that have lost their connection and may come back to it";
        sheet.gauge("connections_away", help, None, self.registry.journals.count_away())?;
        of_memory(&mut sheet, &self.memory)?;
        if let Some(store) = &self.store {
            of_store(&mut sheet, store)?;
            if self.has_webhooks {
                of_webhooks(&mut sheet, store)?;
            }
        }
        if let Some(cluster) = &self.cluster {
            of_cluster(&mut sheet, cluster)?;
        }
        if let Some((written, dropped)) = self.event_log.counts() {
            sheet.counter("event_log_lines", "Event log lines written", None, written)?;
            let help = "Event log lines dropped because the log could not keep up";
            sheet.counter("event_log_dropped", help, None, dropped)?;
        }
        Ok(())
    }
}

impl LiveFigures {
    fn connections(&self, sheet: &mut Sheet<'_>) -> Result<(), Error> {
        // A gauge that was there falls to 0 and does not vanish.
        let mut connections = self.seen.lock();
        connections.values_mut().for_each(|count| *count = 0);
        // Several namespaces may share a connection, and so its queue.
        let mut unsent = HashMap::new();
        for namespace in self.registry.namespaces() {
            for client in namespace.clients() {
                let labels =
                    (client.namespace.label.clone(), client.sender.transport(), client.protocol);
                *connections.entry(labels).or_insert(0) += 1;
                unsent.insert(client.sender.account().id(), client.sender.unsent());
            }
        }
        let help = "Unsent bytes of websocket clients";
        sheet.gauge("unsent", help, Some(&Unit::Bytes), unsent.into_values().sum::<usize>())?;
        let help = "Connected clients, by namespace, transport and Engine.IO protocol";
        let mut family = sheet.0.encode_descriptor("connections", help, None, MetricType::Gauge)?;
        for ((namespace, transport, protocol), count) in connections.iter() {
            let labels = [
                ("namespace", namespace.to_string()),
                ("transport", (*transport).to_owned()),
                ("protocol", protocol.to_string()),
            ];
            ConstGauge::new(*count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn rooms(&self, sheet: &mut Sheet<'_>) -> Result<(), Error> {
        let help = "Rooms with a member, by namespace";
        let mut rooms = sheet.0.encode_descriptor("rooms", help, None, MetricType::Gauge)?;
        let labels = self.registry.labels();
        let mut counts = labels.map(|label| (label.clone(), 0)).collect::<BTreeMap<_, _>>();
        for namespace in self.registry.namespaces() {
            *counts.entry(namespace.label.clone()).or_insert(0) += namespace.room_count();
        }
        for (label, count) in counts {
            let labels = [("namespace", label.to_string())];
            ConstGauge::new(number(count)).encode(rooms.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn of_memory(sheet: &mut Sheet<'_>, memory: &Memory) -> Result<(), Error> {
    let (totals, unit) = (memory.totals(), Some(&Unit::Bytes));
    let help = "Bytes held for all connections, in both directions";
    sheet.gauge("held", help, unit, totals.all)?;
    let help = "Bytes held for the connection with the most";
    sheet.gauge("held_largest", help, unit, totals.largest)?;
    let help = "Memory that the process may use; 0 without a limit";
    sheet.gauge("memory_limit", help, unit, memory.limits().process)?;
    let help = "Memory pressure: 0, 1 (connections are refused) or 2 (events, too)";
    sheet.gauge("memory_level", help, None, memory.level() as u8)?;
    let help = "Connections closed by the server at the transport, by reason";
    let mut family =
        sheet.0.encode_descriptor("connections_cut_off", help, None, MetricType::Counter)?;
    for (why, count) in memory.cut_off() {
        let labels = [("reason", why.as_str())];
        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn of_store(sheet: &mut Sheet<'_>, store: &Store) -> Result<(), Error> {
    let stats = store.stats();
    let help = "Committed transactions; store_entries divided by these is the batch size";
    sheet.counter("store_commits", help, None, stats.commits)?;
    sheet.counter("store_commit_failures", "Failed transactions", None, stats.failures)?;
    sheet.counter("store_entries", "Room messages committed", None, stats.entries)?;
    let help = "Time spent in commits; divided by store_commits, the time of one";
    let seconds = ConstCounter::new(
        std::time::Duration::from_micros(stats.total_commit_micros).as_secs_f64(),
    );
    let unit = Some(&Unit::Seconds);
    seconds.encode(sheet.0.encode_descriptor(
        "store_commit",
        help,
        unit,
        MetricType::Counter,
    )?)?;
    sheet.gauge("store_writes_waiting", "Writes waiting for the disk", None, stats.queued)?;
    let help = "Size of the writes waiting for the disk";
    sheet.gauge("store_waiting", help, Some(&Unit::Bytes), stats.queued_bytes)?;
    sheet.gauge("store_rooms", "Rooms with a history", None, stats.rooms)?;
    let help = "Rooms forgotten to make space for others, beyond MAX_ROOMS or MAX_ROOMS_PER_SENDER";
    sheet.counter("store_rooms_evicted", help, None, stats.evictions)?;
    let help = "Size of the stored data, as limited by STORE_MAX_BYTES; 0 with Redis";
    sheet.gauge("store_size", help, Some(&Unit::Bytes), stats.bytes)?;
    let help = "Memory taken by the indexes of stored messages and idempotency keys, estimated; 0 with Redis";
    sheet.gauge("store_index", help, Some(&Unit::Bytes), stats.index_bytes)?;
    let help = "Room messages deleted early because of STORE_MAX_BYTES";
    sheet.counter("store_trimmed", help, None, stats.trimmed)?;
    let help = "Writes refused because the store or its disk was full";
    sheet.counter("store_refused", help, None, stats.refused)
}

fn of_webhooks(sheet: &mut Sheet<'_>, store: &Store) -> Result<(), Error> {
    let stats = store.stats();
    sheet.gauge("webhooks_pending", "Webhooks waiting for delivery", None, stats.webhooks)?;
    let age = |at: i64| (Timestamp::now().as_millis() - at).max(0) / 1000;
    let help = "Age of the oldest waiting webhook";
    let unit = Some(&Unit::Seconds);
    sheet.gauge("webhooks_oldest", help, unit, stats.oldest_webhook_ms.map_or(0, age))?;
    let help = "Webhooks dropped because more than WEBHOOK_QUEUE were waiting, or the store failed; never those of messages";
    sheet.counter("webhooks_dropped", help, None, stats.webhooks_dropped)?;
    let help = "Webhooks given up after three days";
    sheet.counter("webhooks_given_up", help, None, stats.webhooks_failed)
}

fn of_cluster(sheet: &mut Sheet<'_>, cluster: &Cluster) -> Result<(), Error> {
    let counters = cluster.counters();
    let is_up = cluster.health().is_ok() && cluster.failing_instances().is_empty();
    let help = "Whether Redis, each instance of it, is connected: 1, else 0";
    sheet.gauge("redis_up", help, None, usize::from(is_up))?;
    let help = "Connections made to Redis; more than there are instances after a loss";
    sheet.counter("redis_sessions", help, None, counters.sessions.get())?;
    let help = "Live nodes, including this one; 0 while Redis is away";
    sheet.gauge("cluster_nodes", help, None, cluster.node_count())?;
    let help = "Signals published for other nodes";
    sheet.counter("cluster_signals_published", help, None, counters.published.get())?;
    let help = "Signals lost to other nodes because Redis was away or could not keep up";
    sheet.counter("cluster_signals_lost", help, None, counters.unpublished.get())?;
    let help = "Room messages and signals received by Redis";
    sheet.counter("cluster_received", help, None, counters.received.get())?;
    let help = "Rooms caught up from the log after a lost connection";
    sheet.counter("cluster_rooms_caught_up", help, None, counters.caught_up.get())?;
    let help = "Dead nodes that this node has cleaned up after";
    sheet.counter("cluster_nodes_reaped", help, None, counters.reaped.get())
}

/// The async runtime's figures; none when called outside the runtime.
fn runtime(sheet: &mut Sheet<'_>) -> Result<(), Error> {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return Ok(()) };
    let metrics = runtime.metrics();
    sheet.gauge("runtime_workers", "Threads that run tasks", None, metrics.num_workers())?;
    sheet.gauge("runtime_tasks", "Live tasks", None, metrics.num_alive_tasks())?;
    let help = "Tasks waiting for a thread, without those in a thread's own queue";
    sheet.gauge("runtime_tasks_waiting", help, None, metrics.global_queue_depth())
}

/// The encoder that the figures are written to.
struct Sheet<'a>(DescriptorEncoder<'a>);

impl Sheet<'_> {
    fn gauge<N: TryInto<i64>>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: N,
    ) -> Result<(), Error> {
        let gauge = ConstGauge::new(number(value));
        gauge.encode(self.0.encode_descriptor(name, help, unit, gauge.metric_type())?)
    }

    fn counter(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: u64,
    ) -> Result<(), Error> {
        let counter = ConstCounter::new(value);
        counter.encode(self.0.encode_descriptor(name, help, unit, counter.metric_type())?)
    }
}

fn number<N: TryInto<i64>>(value: N) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}
