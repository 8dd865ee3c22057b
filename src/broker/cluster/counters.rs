//! What the cluster counts, for the metrics.

use prometheus_client::metrics::counter::Counter;

/// Counters since the start of the node.
#[derive(Debug, Default)]
pub struct Counters {
    /// Sessions with Redis that were begun.
    pub sessions: Counter,
    /// Signals published for other nodes.
    pub published: Counter,
    /// Signals that were not published, because Redis was away or too many waited.
    pub unpublished: Counter,
    /// Messages received from Redis: room messages and other nodes' signals.
    pub received: Counter,
    /// Rooms that were brought up to date from the log after a gap.
    pub caught_up: Counter,
    /// Dead nodes whose users this node has removed.
    pub reaped: Counter,
}
