//! Section 18 of the contract: twice sent, once done. On one node, and on two that share one Redis.

mod crash;
mod events;
mod handlers;
mod http;
mod limits;

use serde_json::{Value, json};

/// The acknowledgement of the same event sent again.
fn again(ack: &Value) -> Value {
    assert_eq!(ack["success"], true, "{ack}");
    assert_eq!(ack.get("duplicate"), None, "{ack}");
    let mut again = ack.clone();
    again["duplicate"] = json!(true);
    again
}

#[track_caller]
fn assert_refused(ack: &Value, code: &str) {
    assert_eq!((&ack["success"], &ack["code"]), (&json!(false), &json!(code)), "{ack}");
}
