use serde_json::{json, to_value};

use crate::{
    gateways::admin_ui::{MAX_EVENTS, Throttle, stats::Counts},
    protocol::timestamp::Timestamp,
};

#[test]
fn counts_begin_anew_when_they_are_taken() {
    let counts = Counts::default();
    counts.connected();
    counts.connected();
    counts.disconnected("ping timeout");
    counts.received(10);
    counts.received(7);
    counts.sent(5);
    let now = Timestamp::from_millis(1_700_000_000_999);
    let at = 1_700_000_000_000_i64;
    assert_eq!(
        to_value(counts.take(now)).unwrap(),
        json!([
            {"timestamp": at, "type": "rawConnection", "count": 2},
            {"timestamp": at, "type": "rawDisconnection", "subType": "ping timeout", "count": 1},
            {"timestamp": at, "type": "packetsIn", "count": 2},
            {"timestamp": at, "type": "bytesIn", "count": 17},
            {"timestamp": at, "type": "packetsOut", "count": 1},
            {"timestamp": at, "type": "bytesOut", "count": 5},
        ])
    );
    assert!(counts.take(now).is_empty());
}

#[test]
fn so_many_events_a_second_are_shown() {
    let throttle = Throttle::default();
    let taken = |millis: i64| {
        (0..=MAX_EVENTS).filter(|_| throttle.take(Timestamp::from_millis(millis))).count()
    };
    assert_eq!(taken(1_000), MAX_EVENTS as usize);
    assert_eq!(taken(1_999), 0);
    assert_eq!(taken(2_000), MAX_EVENTS as usize);
}
