//! The figures that an operator watches, in Prometheus' text format.

use std::collections::HashMap;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text::encode},
    metrics::{counter::Counter, family::Family, gauge::ConstGauge},
    registry::{Registry as Figures, Unit},
};

use crate::{clock::Timestamp, refusal::Code, registry::Registry, socket::events};

/// The counters. What can be counted when it is asked for is not counted here but read from the
/// registry, so that it cannot drift.
#[derive(Debug)]
pub struct Metrics {
    figures: Figures,
    connections: Counter,
    disconnections: Counter,
    received: Family<EventLabel, Counter>,
    delivered: Counter,
    refused: Family<CodeLabel, Counter>,
    panics: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabel {
    event: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

impl Metrics {
    /// Counters at zero, and the figures of this registry.
    pub fn new(registry: std::sync::Arc<Registry>) -> Self {
        let mut metrics = Self {
            figures: Figures::with_prefix("roomcast"),
            connections: Counter::default(),
            disconnections: Counter::default(),
            received: Family::default(),
            delivered: Counter::default(),
            refused: Family::default(),
            panics: Counter::default(),
        };
        let figures = &mut metrics.figures;
        let (connections, disconnections) = (&metrics.connections, &metrics.disconnections);
        figures.register("connections_opened", "Clients that have connected", connections.clone());
        figures.register("connections_closed", "Clients that have gone", disconnections.clone());
        figures.register(
            "events_received",
            "Events that clients sent, by name",
            metrics.received.clone(),
        );
        figures.register(
            "packets_delivered",
            "Packets handed to clients of this node",
            metrics.delivered.clone(),
        );
        figures.register("refusals", "What was refused, by code", metrics.refused.clone());
        figures.register(
            "panics",
            "Events that ended in a fault of the server's own",
            metrics.panics.clone(),
        );
        figures.register_collector(Box::new(Census { registry, started_at: Timestamp::now() }));
        metrics
    }

    /// The figures in Prometheus' text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.figures) {
            tracing::error!(%error, "the metrics could not be encoded");
        }
        text
    }

    /// A client has connected.
    pub fn connected(&self) {
        self.connections.inc();
    }

    /// A client has gone.
    pub fn disconnected(&self) {
        self.disconnections.inc();
    }

    /// A client has sent this event.
    pub fn received(&self, event: &str) {
        // Names are the clients' choice: only the known ones may become labels.
        let event = events::ALL.iter().find(|known| **known == event).unwrap_or(&"unknown");
        self.received.get_or_create(&EventLabel { event }).inc();
    }

    /// A packet was handed to this many clients.
    pub fn delivered(&self, clients: usize) {
        self.delivered.inc_by(clients as u64);
    }

    /// Something was refused.
    pub fn refused(&self, code: Code) {
        self.refused.get_or_create(&CodeLabel { code: code.as_str() }).inc();
    }

    /// A handler panicked.
    pub fn panicked(&self) {
        self.panics.inc();
    }
}

/// Counts what is there at the moment.
#[derive(Debug)]
struct Census {
    registry: std::sync::Arc<Registry>,
    started_at: Timestamp,
}

impl Collector for Census {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut connections = HashMap::new();
        for namespace in self.registry.namespaces() {
            for client in namespace.clients() {
                let labels =
                    (client.namespace.path.to_string(), client.outlet.transport(), client.protocol);
                *connections.entry(labels).or_insert(0_i64) += 1;
            }
        }
        let name = "connections";
        let help = "Clients that are connected, by namespace, transport and Engine.IO protocol";
        let mut family = encoder.encode_descriptor(
            name,
            help,
            None,
            prometheus_client::metrics::MetricType::Gauge,
        )?;
        for ((namespace, transport, protocol), count) in connections {
            let labels = [
                ("namespace", namespace),
                ("transport", transport.to_owned()),
                ("protocol", protocol.to_string()),
            ];
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }
        let mut rooms = encoder.encode_descriptor(
            "rooms",
            "Rooms with a member, by namespace",
            None,
            prometheus_client::metrics::MetricType::Gauge,
        )?;
        for namespace in self.registry.namespaces() {
            let labels = [("namespace", namespace.path.to_string())];
            let count = i64::try_from(namespace.room_count()).unwrap_or(i64::MAX);
            ConstGauge::new(count).encode(rooms.encode_family(&labels)?)?;
        }
        let users = ConstGauge::new(i64::try_from(self.registry.users.count()).unwrap_or(i64::MAX));
        let encoder_of_users = encoder.encode_descriptor(
            "users",
            "Users that are online",
            None,
            users.metric_type(),
        )?;
        users.encode(encoder_of_users)?;
        let uptime = (Timestamp::now().as_millis() - self.started_at.as_millis()) / 1000;
        let uptime = ConstGauge::new(uptime);
        let encoder_of_uptime = encoder.encode_descriptor(
            "uptime",
            "Time since the start",
            Some(&Unit::Seconds),
            uptime.metric_type(),
        )?;
        uptime.encode(encoder_of_uptime)
    }
}
