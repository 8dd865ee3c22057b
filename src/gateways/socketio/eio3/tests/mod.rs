//! Packets, payloads and frames by themselves, then around the library.

mod frames;
mod library;

use proptest::prelude::*;

use super::packet::upgrade_packet;

/// Text of many kinds, among it CONNECT packets with and without a query.
fn packets() -> impl Strategy<Value = String> {
    prop_oneof![
        "40/[a-zé𝕊]{0,5}\\?[a-z%&=+1-9é𝕊?]{0,200}(,[a-z{}]{0,5})?",
        "40/[a-zé𝕊]{0,5}(,[?a-z]{0,5})?",
        "4(0/?)?",
        "[2-6].{0,300}",
    ]
}

#[test]
fn the_query_of_a_connect_packet_becomes_its_auth() {
    for (packet, modern) in [
        ("40/chat?token=a.b-c,", r#"40/chat,{"token":"a.b-c"}"#),
        ("40/chat?token=a.b-c", r#"40/chat,{"token":"a.b-c"}"#),
        ("40/chat?b=2&a=1,", r#"40/chat,{"b":"2","a":"1"}"#),
        ("40/chat?clientName=a%26b+%22%C3%A9%22,", r#"40/chat,{"clientName":"a&b \"é\""}"#),
        ("40/chat?a=first&a=second,", r#"40/chat,{"a":"first"}"#),
        ("40/chat?a=b?c,", r#"40/chat,{"a":"b?c"}"#),
        ("40/chat?,", "40/chat,"),
        ("40/chat?", "40/chat,"),
        ("40/?a=1,", r#"40/,{"a":"1"}"#),
        (r#"40/chat?a=1,{"token":"own"}"#, r#"40/chat,{"token":"own"}"#),
    ] {
        assert_eq!(upgrade_packet(packet).as_deref(), Some(modern), "{packet}");
    }
}

#[test]
fn every_other_packet_is_left_alone() {
    for packet in [
        "",
        "4",
        "40",
        "40/",
        "40/chat",
        "40/chat,",
        r#"40/chat,{"a":"?"}"#,
        r#"40{"a":"/?"}"#,
        "41/chat?a=1,",
        r#"42/chat?a=1,["x"]"#,
        r#"42["40/chat?a=1,"]"#,
        "2probe",
        "b40/?a",
    ] {
        assert_eq!(upgrade_packet(packet), None, "{packet}");
    }
}
