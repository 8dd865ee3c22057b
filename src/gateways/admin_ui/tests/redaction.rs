use axum::http::{HeaderMap, Uri};
use serde_json::json;

use crate::gateways::admin_ui::redact;

const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl";

#[test]
fn headers_that_let_somebody_in_are_hidden() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("authorization", "Bearer hunter2"),
        ("cookie", "sid=hunter2"),
        ("proxy-authorization", "Basic hunter2"),
        ("sec-websocket-key", "hunter2"),
        ("x-api-key", "hunter2"),
        ("x-amz-security-token", "hunter2"),
        ("x-forwarded-access-token", "hunter2"),
        ("x-session", "hunter2"),
        ("x-whatever", TOKEN),
        ("host", "localhost:3001"),
        ("user-agent", "a browser"),
        ("referer", "https://a.example/page?token=hunter2#token=hunter2"),
    ] {
        headers.insert(name, value.parse().unwrap());
    }
    headers.append("x-forwarded-for", "192.0.2.1".parse().unwrap());
    headers.append("x-forwarded-for", "192.0.2.2".parse().unwrap());
    let shown = redact::headers(&headers);
    let text = shown.to_string();
    assert!(!text.contains("hunter2") && !text.contains("eyJ"), "{text}");
    assert_eq!(shown["authorization"], "[redacted]");
    assert_eq!(shown["cookie"], "[redacted]");
    assert_eq!(shown["host"], "localhost:3001");
    assert_eq!(shown["user-agent"], "a browser");
    assert_eq!(shown["referer"], "https://a.example/page");
    assert_eq!(shown["x-forwarded-for"], "192.0.2.1, 192.0.2.2");
}

#[test]
fn parameters_that_let_somebody_in_are_hidden() {
    let uri = format!(
        "/socket.io/?EIO=4&transport=polling&token=hunter2&access_token=hunter2&sid=hunter2&apiKey=hunter2&p={TOKEN}&clientName=Ada%20L"
    );
    let uri: Uri = uri.parse().unwrap();
    let hidden = "[redacted]";
    assert_eq!(
        redact::query(&uri),
        json!({
            "EIO": "4", "transport": "polling", "token": hidden, "access_token": hidden, "sid": hidden,
            "apiKey": hidden, "p": hidden, "clientName": "Ada L",
        })
    );
    let url = redact::url(&uri);
    assert!(url.starts_with("/socket.io/?EIO=4&transport=polling&token=%5Bredacted%5D&"), "{url}");
    assert!(!url.contains("hunter2") && !url.contains("eyJ"), "{url}");
    assert_eq!(redact::url(&"/socket.io/".parse().unwrap()), "/socket.io/");
}

#[test]
fn events_keep_everything_but_secrets() {
    let shown = |text: &str| redact::event(text).get().to_owned();
    assert_eq!(
        shown(r#"["authenticate",{"userId":"alice","token":"hunter2"}]"#),
        r#"["authenticate",{"userId":"alice","token":"[redacted]"}]"#
    );
    assert_eq!(
        shown(
            r#"["message",{"b":1,"a":{"Password":["hunter2"],"author":"Ada"},"key":"E","token":null}]"#
        ),
        r#"["message",{"b":1,"a":{"Password":"[redacted]","author":"Ada"},"key":"E","token":null}]"#
    );
    assert_eq!(
        shown(&format!(r#"["authenticate","{TOKEN}"]"#)),
        r#"["authenticate","[redacted]"]"#
    );
    assert_eq!(
        shown(r#"["said","eyJ is how many tokens begin"]"#),
        r#"["said","eyJ is how many tokens begin"]"#
    );
    assert_eq!(shown(&"[".repeat(1000)), r#"["(cannot be shown)"]"#);
    assert!(redact::large(&"x".repeat(20_000), 20_000).get().len() < 300);
    assert_eq!(
        redact::large("message", 20_000).get(),
        r#"["message","(20000 bytes: too many to be shown)"]"#
    );
}
