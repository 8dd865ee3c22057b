//! What a client says of itself when it connects.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use axum::http::{header, request::Parts};
use indexmap::IndexMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use socketioxide_core::Value;

use crate::{
    commands::connection_recovery::Back,
    config::Config,
    limits::{MAX_DEPTH, client_address, is_deeper_than},
    protocol::{
        payload::{Object, Payload, json_of, raw, tagged::to_tagged},
        refusal::Refusal,
    },
};

/// The parts of a handshake that the server uses.
#[derive(Default)]
pub(super) struct Handshake {
    /// The token, from `auth.token`, else query `token`, else `Authorization: Bearer`.
    pub token: Option<String>,
    /// The name, from `auth.clientName`, else query `clientName`, else header `x-client-name`.
    pub client_name: Option<String>,
    /// The address the connection came from.
    pub address: Option<IpAddr>,
    /// The session that it had before, from `auth.pid` and `auth.offset`.
    pub back: Option<Back>,
}

impl Handshake {
    /// Reads a handshake from its HTTP request and the `auth` object of its CONNECT packet.
    pub(super) fn read(parts: &Parts, auth: Option<&Value>, config: &Config) -> Self {
        let auth = auth.and_then(Value::as_str).and_then(|text| Object::parse(text.as_str()));
        let auth = |key: &str| Some(auth.as_ref()?.get(key)?.get());
        let text = |json: &str| serde_json::from_str::<String>(json).ok();
        // A token that is no string is a bad token, not a missing one.
        let given_token =
            || auth("token").map(|json| text(json).unwrap_or_else(|| json.to_owned()));
        let query = |key: &str| {
            let query = parts.uri.query()?;
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs.find(|(name, _)| name == key).map(|(_, value)| value.into_owned())
        };
        let header = |key: &str| Some(parts.headers.get(key)?.to_str().ok()?.to_owned());
        let bearer = || {
            let header = header("authorization")?;
            let (scheme, token) = header.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
        };
        let present = |text: &String| !text.is_empty();
        let token = given_token().filter(present).or_else(|| query("token").filter(present));
        let name = auth("clientName")
            .and_then(text)
            .filter(present)
            .or_else(|| query("clientName").filter(present));
        let pid = auth("pid").and_then(text);
        let back = pid.map(|pid| Back { pid, offset: auth("offset").and_then(text) });
        Self {
            back,
            token: token.or_else(bearer).filter(present),
            client_name: name.or_else(|| header("x-client-name")).filter(present),
            address: client_address(&parts.headers, &parts.extensions, config),
        }
    }
}

/// A handshake as the application's backend gets it: `{auth, query, headers}`, with those headers that it wants.
///
/// # Errors
/// `invalid_payload` if `auth` is too deep.
pub(super) fn describe(
    parts: &Parts,
    auth: Option<&Value>,
    wants: impl Fn(&str) -> bool,
) -> Result<Box<RawValue>, Refusal> {
    #[derive(Serialize)]
    struct Shown<'a> {
        auth: Box<RawValue>,
        query: IndexMap<Cow<'a, str>, OneOrMore<Cow<'a, str>>>,
        headers: IndexMap<&'a str, String>,
    }
    let auth = auth.and_then(Value::as_str).map_or("{}", |text| text.as_str());
    if is_deeper_than(MAX_DEPTH, auth) {
        let message = format!("auth is nested deeper than {MAX_DEPTH} levels");
        return Err(Refusal::invalid(message));
    }
    let auth = raw(to_tagged(&Payload::from_raw(raw(auth)))?);
    let mut query = IndexMap::<_, OneOrMore<_>>::new();
    for (name, value) in
        url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
    {
        query.entry(name).or_default().0.push(value);
    }
    let mut headers = IndexMap::new();
    for name in parts.headers.keys().filter(|name| wants(name.as_str())) {
        let values = parts.headers.get_all(name).iter();
        let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()));
        let between = if *name == header::COOKIE { "; " } else { ", " };
        headers.insert(name.as_str(), values.collect::<Vec<_>>().join(between));
    }
    Ok(json_of(&Shown { auth, query, headers }))
}

/// The values of one name: the value itself where there is one.
#[derive(Default)]
struct OneOrMore<T>(Vec<T>);

impl<T: Serialize> Serialize for OneOrMore<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [one] => one.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

/// The greatest length of a client's name, in Unicode code points; the rest is cut off.
const MAX_CLIENT_NAME: usize = 200;

/// A client's name: the token's, else the handshake's.
pub(super) fn client_name(token: Option<String>, handshake: Option<String>) -> Arc<str> {
    match token.filter(|name| !name.is_empty()).or(handshake) {
        Some(name) => name.chars().take(MAX_CLIENT_NAME).collect::<String>().into(),
        None => "anonymous".into(),
    }
}
