//! The metrics, in Prometheus' text format.
//!
//! `docs/metrics.md` lists them; a test compares it, and the dashboard, with what is exported.

mod process;

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeLabelSet,
        text::{encode_eof, encode_registry},
    },
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry as Figures, Unit},
};

use self::process::Process;
use crate::{
    memory::Slow,
    protocol::{not_recovered::NotRecovered, refusal::Code},
};

/// Buckets from the smallest room to all clients of a large server.
const RECIPIENTS: [f64; 9] = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 10_000.0, 100_000.0];

/// Buckets from a fan-out to one client to one that blocks everything, in seconds.
const FAN_OUT_SECONDS: [f64; 9] =
    [0.000_01, 0.000_03, 0.000_1, 0.000_3, 0.001, 0.01, 0.1, 1.0, 10.0];

/// Buckets from an immediate answer to one that a person calls broken, in seconds.
const ANSWER_SECONDS: [f64; 12] =
    [0.000_3, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The counters. Figures that can be counted on request are read then, by a collector, so that they cannot
/// drift.
#[derive(Debug)]
pub struct Metrics {
    figures: Figures,
    process: Figures,
    live: Live,
    connections: Counter,
    disconnections: Counter,
    received: Family<EventLabel, Counter>,
    waiting: Gauge,
    answered: Histogram,
    delivered: Counter,
    recipients: Histogram,
    fan_out: Histogram,
    refused: Family<CodeLabel, Counter>,
    limits: Family<LimitLabel, Counter>,
    auth_failures: Counter,
    slow_consumers: Family<ReasonLabel, Counter>,
    floods: Counter,
    requests: Family<StatusLabel, Counter>,
    panics: Counter,
    handler: HandlerFigures,
    webhooks: Family<OutcomeLabel, Counter>,
    webhooks_off: Gauge,
    recoveries: Family<OutcomeLabel, Counter>,
    emitters: Family<EmitterLabel, Counter>,
    emitters_turn: Gauge,
}

/// How connection state recovery ends well.
const RECOVERED: OutcomeLabel = OutcomeLabel { outcome: "recovered" };

/// The figures of requests to the application's backend.
#[derive(Debug)]
struct HandlerFigures {
    requests: Family<HandlerLabel, Counter>,
    seconds: Histogram,
    under_way: Gauge,
    waiting: Gauge,
}

impl Default for HandlerFigures {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            seconds: Histogram::new(ANSWER_SECONDS),
            under_way: Gauge::default(),
            waiting: Gauge::default(),
        }
    }
}

/// A limit that can be hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// A client's events.
    Events,
    /// Failed authentications.
    Authentication,
    /// Connections: new ones, or all at a time.
    Connections,
    /// HTTP requests.
    Http,
    /// The process's memory.
    Memory,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabel {
    event: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandlerLabel {
    kind: &'static str,
    outcome: &'static str,
}

/// How an emitter sent something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmitterSource {
    /// By publish/subscribe.
    PubSub,
    /// By a stream.
    Stream,
}

/// What became of what an emitter sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmitterOutcome {
    /// It is carried out.
    Done,
    /// It was refused.
    Refused,
    /// It was too much, or the server was short of memory.
    Dropped,
    /// It could not be read.
    Unfit,
}

impl EmitterOutcome {
    const ALL: [Self; 4] = [Self::Done, Self::Refused, Self::Dropped, Self::Unfit];
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EmitterLabel {
    source: &'static str,
    outcome: &'static str,
}

impl EmitterLabel {
    fn of(source: EmitterSource, outcome: EmitterOutcome) -> Self {
        let source = match source {
            EmitterSource::PubSub => "pubsub",
            EmitterSource::Stream => "stream",
        };
        let outcome = match outcome {
            EmitterOutcome::Done => "done",
            EmitterOutcome::Refused => "refused",
            EmitterOutcome::Dropped => "dropped",
            EmitterOutcome::Unfit => "unfit",
        };
        Self { source, outcome }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabel {
    limit: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: u16,
}

impl Default for Metrics {
    /// Counters at zero.
    fn default() -> Self {
        let mut metrics = Self {
            figures: Figures::with_prefix("roomcast"),
            process: Figures::default(),
            live: Live::default(),
            connections: Counter::default(),
            disconnections: Counter::default(),
            received: Family::default(),
            waiting: Gauge::default(),
            answered: Histogram::new(ANSWER_SECONDS),
            delivered: Counter::default(),
            recipients: Histogram::new(RECIPIENTS),
            fan_out: Histogram::new(FAN_OUT_SECONDS),
            refused: Family::default(),
            limits: Family::default(),
            auth_failures: Counter::default(),
            slow_consumers: Family::default(),
            floods: Counter::default(),
            requests: Family::default(),
            panics: Counter::default(),
            handler: HandlerFigures::default(),
            webhooks: Family::default(),
            webhooks_off: Gauge::default(),
            recoveries: Family::default(),
            emitters: Family::default(),
            emitters_turn: Gauge::default(),
        };
        metrics.register();
        metrics.figures.register_collector(Box::new(metrics.live.clone()));
        metrics.process.register_collector(Box::new(Process));
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let figures = &mut self.figures;
        add(figures, "connections_opened", "Clients that have connected", &self.connections);
        add(figures, "connections_closed", "Clients that have disconnected", &self.disconnections);
        add(
            figures,
            "packets_delivered",
            "Packets passed to clients of this node",
            &self.delivered,
        );
        add(
            figures,
            "authentication_failures",
            "Rejected tokens and API keys",
            &self.auth_failures,
        );
        let help = "Clients disconnected because they read too slowly";
        add(figures, "slow_consumers", help, &self.slow_consumers);
        // Exported from zero on, so that the first one shows as a rise.
        for reason in Slow::ALL {
            drop(self.slow_consumers.get_or_create(&ReasonLabel { reason: reason.as_str() }));
        }
        let help = "Clients disconnected for flooding";
        add(figures, "floods", help, &self.floods);
        add(figures, "panics", "Events that ended in a panic of the server", &self.panics);
        let help = "Events received from clients, by name";
        add(figures, "events_received", help, &self.received);
        let help = "Events waiting behind earlier events of the same client";
        add(figures, "events_waiting", help, &self.waiting);
        add(figures, "refusals", "Refused events, by code", &self.refused);
        let help = "Refusals by a limit: events, authentications, connections, HTTP requests; memory: any of them";
        add(figures, "limited", help, &self.limits);
        add(figures, "http_requests", "HTTP requests answered, by status", &self.requests);
        let help = "Clients of this node that receive one message or signal";
        add(figures, "fan_out_recipients", help, &self.recipients);
        let help = "Time to pass one message or signal to its recipients";
        add_seconds(figures, "fan_out", help, &self.fan_out);
        let help = "Time from a client's event to its acknowledgement";
        add_seconds(figures, "acknowledgement", help, &self.answered);
        let HandlerFigures { requests, seconds, under_way, waiting } = &self.handler;
        let help = "Requests to the application's backend, by kind and outcome";
        add(figures, "handler_requests", help, requests);
        let help = "Time the application's backend takes to answer";
        add_seconds(figures, "handler_answer", help, seconds);
        let help = "Requests to the application's backend in progress";
        add(figures, "handler_under_way", help, under_way);
        let help = "Requests to the application's backend waiting for a free slot";
        add(figures, "handler_waiting", help, waiting);
        let help = "Webhook requests, by outcome: delivered, gone, or the reason of the failure";
        add(figures, "webhook_requests", help, &self.webhooks);
        let help =
            "1 if the webhook endpoint has answered 410 and gets nothing until a restart, else 0";
        add(figures, "webhooks_off", help, &self.webhooks_off);
        let help = "Clients that came back after a lost connection, by outcome: recovered, or why the client is a new one: ended, foreign, offset, missed, busy, node";
        add(figures, "connection_recoveries", help, &self.recoveries);
        let others = NotRecovered::ALL.map(|why| OutcomeLabel { outcome: why.as_str() });
        for outcome in [RECOVERED].into_iter().chain(others) {
            drop(self.recoveries.get_or_create(&outcome));
        }
        let help = "Messages of Socket.IO's emitters, by source (pubsub, stream) and outcome: done, refused, dropped, unfit";
        add(figures, "emitter_messages", help, &self.emitters);
        for source in [EmitterSource::PubSub, EmitterSource::Stream] {
            for outcome in EmitterOutcome::ALL {
                drop(self.emitters.get_or_create(&EmitterLabel::of(source, outcome)));
            }
        }
        let help = "Whether this node carries out the messages of emitters: 1, else 0";
        add(figures, "emitters_turn", help, &self.emitters_turn);
    }

    /// Adds figures that are read on request. The first call wins.
    pub fn collect(&self, collector: Box<dyn Collector>) {
        let _first = self.live.0.set(collector);
    }

    /// The figures in Prometheus' text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let encoded = encode_registry(&mut text, &self.figures)
            .and_then(|()| encode_registry(&mut text, &self.process))
            .and_then(|()| encode_eof(&mut text));
        if let Err(error) = encoded {
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

    /// A client has sent the event of this name.
    pub fn received(&self, event: &'static str) {
        self.received.get_or_create(&EventLabel { event }).inc();
    }

    /// `more` events more wait (fewer, if negative).
    pub fn waiting(&self, more: i64) {
        self.waiting.inc_by(more);
    }

    /// An event was answered, this long after it came.
    pub fn answered(&self, after: Duration) {
        self.answered.observe(after.as_secs_f64());
    }

    /// A packet was handed to this many clients.
    pub fn delivered(&self, clients: usize) {
        self.delivered.inc_by(clients as u64);
    }

    /// A message or signal was handed to this many clients; the fan-out began at `since`.
    pub fn fanned_out(&self, clients: usize, since: Instant) {
        self.delivered(clients);
        self.recipients.observe(f64::from(u32::try_from(clients).unwrap_or(u32::MAX)));
        self.fan_out.observe(since.elapsed().as_secs_f64());
    }

    /// A client's event was refused.
    pub fn refused(&self, code: Code) {
        self.refused.get_or_create(&CodeLabel { code: code.as_str() }).inc();
    }

    /// A limit was hit.
    pub fn limited(&self, limit: Limit) {
        let limit = match limit {
            Limit::Events => "events",
            Limit::Authentication => "authentication",
            Limit::Connections => "connections",
            Limit::Http => "http",
            Limit::Memory => "memory",
        };
        self.limits.get_or_create(&LimitLabel { limit }).inc();
    }

    /// A token or an API key was rejected.
    pub fn auth_failed(&self) {
        self.auth_failures.inc();
    }

    /// A client was disconnected because it read too slowly.
    pub fn slow_consumer(&self, reason: Slow) {
        self.slow_consumers.get_or_create(&ReasonLabel { reason: reason.as_str() }).inc();
    }

    /// A client was disconnected because it went on sending too much.
    pub fn flooded(&self) {
        self.floods.inc();
    }

    /// An HTTP request was answered with this status.
    pub fn requested(&self, status: u16) {
        self.requests.get_or_create(&StatusLabel { status }).inc();
    }

    /// A request to the application's backend has this outcome.
    pub fn handler_asked(&self, kind: &'static str, outcome: &'static str) {
        self.handler.requests.get_or_create(&HandlerLabel { kind, outcome }).inc();
    }

    /// The application's backend has answered after this time.
    pub fn handler_answered(&self, after: Duration) {
        self.handler.seconds.observe(after.as_secs_f64());
    }

    /// `more` requests to the application's backend more are under way (fewer, if negative).
    pub fn handler_under_way(&self, more: i64) {
        self.handler.under_way.inc_by(more);
    }

    /// `more` requests to the application's backend more wait for a free place (fewer, if negative).
    pub fn handler_waiting(&self, more: i64) {
        self.handler.waiting.inc_by(more);
    }

    /// A webhook was sent, with this outcome.
    pub fn webhook_tried(&self, outcome: &'static str) {
        self.webhooks.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// The endpoint for webhooks wants no more.
    pub fn webhooks_off(&self) {
        self.webhooks_off.set(1);
    }

    /// A client is back, with everything that it missed.
    pub fn recovered(&self) {
        self.recoveries.get_or_create(&RECOVERED).inc();
    }

    /// A client wanted to go on where it was, and is a new one.
    pub fn not_recovered(&self, why: NotRecovered) {
        self.recoveries.get_or_create(&OutcomeLabel { outcome: why.as_str() }).inc();
    }

    /// Emitters sent `count` messages with this outcome.
    pub fn emitted(&self, source: EmitterSource, outcome: EmitterOutcome, count: usize) {
        self.emitters.get_or_create(&EmitterLabel::of(source, outcome)).inc_by(count as u64);
    }

    /// Whether this node takes what emitters send.
    pub fn emitters_turn(&self, is_own: bool) {
        self.emitters_turn.set(i64::from(is_own));
    }

    /// A handler panicked.
    pub fn panicked(&self) {
        self.panics.inc();
    }
}

/// The figures of the collector, which is added once the counters exist.
#[derive(Debug, Clone, Default)]
struct Live(Arc<OnceLock<Box<dyn Collector>>>);

impl Collector for Live {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.get().map_or(Ok(()), |collector| collector.encode(encoder))
    }
}

fn add(figures: &mut Figures, name: &str, help: &str, metric: &(impl Metric + Clone)) {
    figures.register(name, help, metric.clone());
}

fn add_seconds(figures: &mut Figures, name: &str, help: &str, metric: &Histogram) {
    figures.register_with_unit(name, help, Unit::Seconds, metric.clone());
}
