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
        DescriptorEncoder,
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

/// A counter for each value of one label.
type ByLabel<T = &'static str> = Family<[(&'static str, T); 1], Counter>;

/// A counter for each pair of values of two labels.
type ByLabels = Family<[(&'static str, &'static str); 2], Counter>;

/// The counters. Figures that can be counted on request are read then, by a collector, so that they cannot
/// drift.
#[derive(Debug)]
pub struct Metrics {
    figures: Figures,
    process: Figures,
    live: Live,
    connections: Counter,
    disconnections: Counter,
    delivered: Counter,
    auth_failures: Counter,
    slow_consumers: ByLabel,
    floods: Counter,
    panics: Counter,
    received: ByLabel,
    waiting: Gauge,
    refused: ByLabel,
    limits: ByLabel,
    requests: ByLabel<u16>,
    recipients: Histogram,
    fan_out: Histogram,
    answered: Histogram,
    handler: HandlerFigures,
    webhooks: ByLabel,
    webhooks_off: Gauge,
    recoveries: ByLabel,
    emitters: ByLabels,
    emitters_turn: Gauge,
}

/// The figures of requests to the application's backend.
#[derive(Debug)]
struct HandlerFigures {
    requests: ByLabels,
    answers: Histogram,
    under_way: Gauge,
    waiting: Gauge,
}

impl HandlerFigures {
    fn new(all: &mut Figures) -> Self {
        let under_way = "Requests to the application's backend in progress";
        let waiting = "Requests to the application's backend waiting for a free slot";
        Self {
            requests: add(
                all,
                "handler_requests",
                "Requests to the application's backend, by kind and outcome",
            ),
            answers: seconds(
                all,
                "handler_answer",
                "Time the application's backend takes to answer",
                &ANSWER_SECONDS,
            ),
            under_way: add(all, "handler_under_way", under_way),
            waiting: add(all, "handler_waiting", waiting),
        }
    }
}

/// How connection state recovery ends well.
const RECOVERED: &str = "recovered";

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

fn emitter_labels(
    source: EmitterSource,
    outcome: EmitterOutcome,
) -> [(&'static str, &'static str); 2] {
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
    [("source", source), ("outcome", outcome)]
}

impl Default for Metrics {
    /// Counters at zero, exported in the order in which they stand here.
    fn default() -> Self {
        let mut figures = Figures::with_prefix("roomcast");
        let all = &mut figures;
        let mut metrics = Self {
            connections: add(all, "connections_opened", "Clients that have connected"),
            disconnections: add(all, "connections_closed", "Clients that have disconnected"),
            delivered: add(all, "packets_delivered", "Packets passed to clients of this node"),
            auth_failures: add(all, "authentication_failures", "Rejected tokens and API keys"),
            slow_consumers: add(
                all,
                "slow_consumers",
                "Clients disconnected because they read too slowly",
            ),
            floods: add(all, "floods", "Clients disconnected for flooding"),
            panics: add(all, "panics", "Events that ended in a panic of the server"),
            received: add(all, "events_received", "Events received from clients, by name"),
            waiting: add(
                all,
                "events_waiting",
                "Events waiting behind earlier events of the same client",
            ),
            refused: add(all, "refusals", "Refused events, by code"),
            limits: add(
                all,
                "limited",
                "Refusals by a limit: events, authentications, connections, HTTP requests; memory: any of them",
            ),
            requests: add(all, "http_requests", "HTTP requests answered, by status"),
            recipients: register(
                all,
                "fan_out_recipients",
                "Clients of this node that receive one message or signal",
                Histogram::new(RECIPIENTS),
            ),
            fan_out: seconds(
                all,
                "fan_out",
                "Time to pass one message or signal to its recipients",
                &FAN_OUT_SECONDS,
            ),
            answered: seconds(
                all,
                "acknowledgement",
                "Time from a client's event to its acknowledgement",
                &ANSWER_SECONDS,
            ),
            handler: HandlerFigures::new(all),
            webhooks: add(
                all,
                "webhook_requests",
                "Webhook requests, by outcome: delivered, gone, or the reason of the failure",
            ),
            webhooks_off: add(
                all,
                "webhooks_off",
                "1 if the webhook endpoint has answered 410 and gets nothing until a restart, else 0",
            ),
            recoveries: add(
                all,
                "connection_recoveries",
                "Clients that came back after a lost connection, by outcome: recovered, or why the client is a new one: ended, foreign, offset, missed, busy, node",
            ),
            emitters: add(
                all,
                "emitter_messages",
                "Messages of Socket.IO's emitters, by source (pubsub, stream) and outcome: done, refused, dropped, unfit",
            ),
            emitters_turn: add(
                all,
                "emitters_turn",
                "Whether this node carries out the messages of emitters: 1, else 0",
            ),
            process: Figures::default(),
            live: Live::default(),
            figures,
        };
        metrics.export_zeros();
        metrics.figures.register_collector(Box::new(metrics.live.clone()));
        metrics.process.register_collector(Box::new(Process));
        metrics
    }
}

impl Metrics {
    /// Exports counters of known labels from zero on, so that the first event shows as a rise.
    fn export_zeros(&self) {
        for reason in Slow::ALL {
            drop(self.slow_consumers.get_or_create(&[("reason", reason.as_str())]));
        }
        for outcome in [RECOVERED].into_iter().chain(NotRecovered::ALL.map(NotRecovered::as_str)) {
            drop(self.recoveries.get_or_create(&[("outcome", outcome)]));
        }
        for source in [EmitterSource::PubSub, EmitterSource::Stream] {
            for outcome in EmitterOutcome::ALL {
                drop(self.emitters.get_or_create(&emitter_labels(source, outcome)));
            }
        }
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
        self.received.get_or_create(&[("event", event)]).inc();
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
        self.refused.get_or_create(&[("code", code.as_str())]).inc();
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
        self.limits.get_or_create(&[("limit", limit)]).inc();
    }

    /// A token or an API key was rejected.
    pub fn auth_failed(&self) {
        self.auth_failures.inc();
    }

    /// A client was disconnected because it read too slowly.
    pub fn slow_consumer(&self, reason: Slow) {
        self.slow_consumers.get_or_create(&[("reason", reason.as_str())]).inc();
    }

    /// A client was disconnected because it went on sending too much.
    pub fn flooded(&self) {
        self.floods.inc();
    }

    /// An HTTP request was answered with this status.
    pub fn requested(&self, status: u16) {
        self.requests.get_or_create(&[("status", status)]).inc();
    }

    /// A request to the application's backend has this outcome.
    pub fn handler_asked(&self, kind: &'static str, outcome: &'static str) {
        self.handler.requests.get_or_create(&[("kind", kind), ("outcome", outcome)]).inc();
    }

    /// The application's backend has answered after this time.
    pub fn handler_answered(&self, after: Duration) {
        self.handler.answers.observe(after.as_secs_f64());
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
        self.webhooks.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// The endpoint for webhooks wants no more.
    pub fn webhooks_off(&self) {
        self.webhooks_off.set(1);
    }

    /// A client is back, with everything that it missed.
    pub fn recovered(&self) {
        self.recoveries.get_or_create(&[("outcome", RECOVERED)]).inc();
    }

    /// A client wanted to go on where it was, and is a new one.
    pub fn not_recovered(&self, why: NotRecovered) {
        self.recoveries.get_or_create(&[("outcome", why.as_str())]).inc();
    }

    /// Emitters sent `count` messages with this outcome.
    pub fn emitted(&self, source: EmitterSource, outcome: EmitterOutcome, count: usize) {
        self.emitters.get_or_create(&emitter_labels(source, outcome)).inc_by(count as u64);
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

/// Registers a new counter or gauge.
fn add<M: Metric + Clone + Default>(figures: &mut Figures, name: &str, help: &str) -> M {
    register(figures, name, help, M::default())
}

fn register<M: Metric + Clone>(figures: &mut Figures, name: &str, help: &str, metric: M) -> M {
    figures.register(name, help, metric.clone());
    metric
}

/// Registers a new histogram of seconds.
fn seconds(figures: &mut Figures, name: &str, help: &str, buckets: &'static [f64]) -> Histogram {
    let histogram = Histogram::new(buckets.iter().copied());
    figures.register_with_unit(name, help, Unit::Seconds, histogram.clone());
    histogram
}
