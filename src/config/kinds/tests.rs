use super::*;

fn because(error: &ParseError) -> &str {
    match error {
        ParseError::Because(why) => why,
        ParseError::Other => "",
    }
}

#[test]
fn origins_are_written_as_browsers_send_them() {
    let origins =
        (ORIGINS.parse)("HTTPS://Example.com:443/, http://localhost:4200,capacitor://LOCALHOST")
            .unwrap();
    assert!(origins.allows("https://example.com"));
    assert!(origins.allows("http://localhost:4200"));
    assert!(origins.allows("capacitor://localhost"));
    assert!(!origins.allows("http://localhost"));
    assert!(!origins.allows("https://example.com.evil.org"));
    assert!((ORIGINS.parse)("*").unwrap().allows("https://anything.example"));
}

#[test]
fn what_is_no_origin_is_refused() {
    for text in [
        "example.com",
        "https://*.example.com",
        "https://a.com/path",
        "*,https://a.com",
        ",",
        "null",
    ] {
        assert!((ORIGINS.parse)(text).is_err(), "{text}");
    }
    let error = (ORIGINS.parse)("https://me:hunter2@a.com").unwrap_err();
    assert!(!because(&error).contains("hunter2"));
}

#[test]
fn the_root_namespace_comes_first_and_is_always_there() {
    assert_eq!((NAMESPACES.parse)("chat, /, /chat,/news").unwrap(), ["/", "/chat", "/news"]);
    assert_eq!((NAMESPACES.parse)("/chat").unwrap(), ["/", "/chat"]);
    for text in ["/a?b", "/a\u{0}b"] {
        assert_eq!((NAMESPACES.parse)(text), Err(ParseError::Other), "{text:?}");
    }
}

#[test]
fn at_least_one_transport() {
    assert_eq!((TRANSPORTS.parse)("Polling"), Ok(Transports { websocket: false, polling: true }));
    assert_eq!((TRANSPORTS.parse)(","), Err(ParseError::Other));
    assert_eq!((TRANSPORTS.parse)("websocket,webtransport"), Err(ParseError::Other));
}

#[test]
fn networks_are_addresses_or_cidr() {
    let networks = (NETWORKS.parse)("10.1.2.3/8, ::1,::ffff:192.0.2.1").unwrap();
    assert_eq!((NETWORKS.show)(&networks), "10.0.0.0/8,::1/128,192.0.2.1/32");
    assert!(because(&(NETWORKS.parse)("10.0.0.0/33").unwrap_err()).contains("10.0.0.0/33"));
    assert!((NETWORKS.parse)("loopback").is_err());
}

#[test]
fn api_keys_travel_in_a_header() {
    let keys = (API_KEYS.parse)(" one , two ").unwrap();
    assert_eq!(keys.iter().map(Secret::expose).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!((API_KEYS.show)(&keys), "[redacted],[redacted]");
    for text in [",", "a b", "schlüssel"] {
        assert!((API_KEYS.parse)(text).is_err(), "{text}");
    }
}

#[test]
fn signing_keys_are_decoded() {
    let keys = (SIGNING_SECRETS.parse)("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw, whsec_YQ");
    let keys = keys.unwrap();
    let lengths = keys.expose().map(<[u8]>::len).collect::<Vec<_>>();
    assert_eq!(lengths, [24, 1]);
    assert_eq!((SIGNING_SECRETS.show)(&keys), "[redacted],[redacted]");
    assert!((SIGNING_SECRETS.parse)("").unwrap().is_empty());
    for text in ["YQ==", "whsec_", "whsec_!", ",", "whsec_YQ,whsec_YQ,whsec_YQ"] {
        assert!((SIGNING_SECRETS.parse)(text).is_err(), "{text}");
    }
}

#[test]
fn only_types_that_there_are_can_be_sent() {
    let types = (WEBHOOK_TYPES.parse)("room.*, message.created").unwrap();
    assert!(types.matches("room.joined") && types.matches("message.created"));
    assert!(!types.matches("message.queued"));
    assert!(because(&(WEBHOOK_TYPES.parse)("room.*,rom.*").unwrap_err()).contains("rom.*"));
    assert!((WEBHOOK_TYPES.parse)(",").is_err() && (WEBHOOK_ROOMS.parse)(",").is_err());
}

#[test]
fn headers_are_named_in_lower_case() {
    let headers = (HEADER_NAMES.parse)("Cookie, X-*").unwrap();
    assert!(headers.matches("cookie") && headers.matches("x-api-key"));
    assert!(!headers.matches("host"));
    assert!((HEADER_NAMES.parse)("a b").is_err());
    assert!((HEADER_NAMES.parse)("").unwrap().is_empty());
}

#[test]
fn filters_are_checked() {
    assert_eq!((LOG_FILTER.parse)("warn,roomcast=trace").unwrap().unwrap(), "warn,roomcast=trace");
    assert!((LOG_FILTER.parse)("roomcast=loud").is_err());
}
