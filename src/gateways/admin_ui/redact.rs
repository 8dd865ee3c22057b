//! Hides from operators' screens what would let somebody in.

use axum::http::{HeaderMap, Uri};
use serde_json::{Map, Value, json, value::RawValue};

/// The text in place of a secret.
const REDACTED: &str = "[redacted]";

/// The largest event that is shown whole, in bytes.
pub(super) const MAX_SHOWN: usize = 10_000;

/// The most of such an event's name that is shown, in characters: it may be what is large.
const MAX_NAME: usize = 200;

/// Parts of the names of headers and parameters that hold secrets.
const SECRET_PARTS: [&str; 12] = [
    "auth",
    "cookie",
    "credential",
    "jwt",
    "key",
    "passwd",
    "password",
    "secret",
    "session",
    "signature",
    "token",
    "ticket",
];

/// The fields of events that hold secrets. Fewer than above: `key` or `author` are common words.
const SECRET_FIELDS: [&str; 8] = [
    "accesstoken",
    "apikey",
    "authorization",
    "jwt",
    "password",
    "refreshtoken",
    "secret",
    "token",
];

/// The headers of a request.
pub(super) fn headers(headers: &HeaderMap) -> Value {
    let mut shown = Map::new();
    for name in headers.keys() {
        let values = headers.get_all(name).iter().map(|value| match value.to_str() {
            Ok(text) => text.to_owned(),
            Err(_) => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        });
        let value = values.collect::<Vec<_>>().join(", ");
        let value = if name == "referer" { without_query(&value) } else { value };
        shown.insert(name.to_string(), json!(value_of(name.as_str(), value)));
    }
    Value::Object(shown)
}

/// The parameters of a request.
pub(super) fn query(uri: &Uri) -> Value {
    Value::Object(pairs(uri).map(|(name, value)| (name, json!(value))).collect())
}

/// The path of a request, with its parameters.
pub(super) fn url(uri: &Uri) -> String {
    if uri.query().is_none() {
        return uri.path().to_owned();
    }
    let query =
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs(uri)).finish();
    format!("{}?{query}", uri.path())
}

fn pairs(uri: &Uri) -> impl Iterator<Item = (String, String)> {
    let pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    pairs.map(|(name, value)| {
        let value = value_of(&name, value.into_owned());
        (name.into_owned(), value)
    })
}

fn value_of(name: &str, value: String) -> String {
    let plain = plain(name);
    let is_secret = plain == "sid" || SECRET_PARTS.iter().any(|part| plain.contains(part));
    if is_secret || looks_like_token(&value) { REDACTED.to_owned() } else { value }
}

fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}

fn without_query(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

/// Whether the text holds a JSON Web Token: its header, `{"`, in base64, and two dots.
fn looks_like_token(text: &str) -> bool {
    text.find("eyJ").is_some_and(|at| text[at..].matches('.').count() >= 2)
}

/// An event as it may be shown: its name and arguments, in JSON.
pub(super) fn event(text: &str) -> Box<RawValue> {
    let shown = match serde_json::from_str::<Value>(text) {
        Ok(mut value) => {
            hide(&mut value);
            value
        }
        // No JSON, or nested too deep.
        Err(_) => json!(["(cannot be shown)"]),
    };
    crate::protocol::payload::json_of(&shown)
}

/// An event that is too large to be shown.
pub(super) fn large(name: &str, size: usize) -> Box<RawValue> {
    let name = name.chars().take(MAX_NAME).collect::<String>();
    crate::protocol::payload::json_of(&json!([
        name,
        format!("({size} bytes: too many to be shown)")
    ]))
}

fn hide(value: &mut Value) {
    match value {
        Value::String(text) if looks_like_token(text) => *value = json!(REDACTED),
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::Object(fields) => {
            for (name, value) in fields {
                if SECRET_FIELDS.contains(&plain(name).as_str()) && !value.is_null() {
                    *value = json!(REDACTED);
                } else {
                    hide(value);
                }
            }
        }
        _ => {}
    }
}
