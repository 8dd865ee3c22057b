//! What a client says of itself when it connects.

use std::{net::IpAddr, sync::Arc};

use axum::http::request::Parts;
use socketioxide_core::Value;

use crate::{config::Config, limits::client_address, protocol::payload::Object};

/// The parts of a handshake that the server uses.
#[derive(Default)]
pub(super) struct Handshake {
    /// The token, from `auth.token`, else query `token`, else `Authorization: Bearer`.
    pub token: Option<String>,
    /// The name, from `auth.clientName`, else query `clientName`, else header `x-client-name`.
    pub client_name: Option<String>,
    /// The address the connection came from.
    pub address: Option<IpAddr>,
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
        Self {
            token: token.or_else(bearer).filter(present),
            client_name: name.or_else(|| header("x-client-name")).filter(present),
            address: client_address(&parts.headers, &parts.extensions, config),
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
