//! What the backend is sent.

use std::{net::IpAddr, sync::Arc};

use serde::Serialize;
use serde_json::value::RawValue;

use super::call::Kind;
use crate::{
    hub::Client,
    protocol::{
        client_id::ClientId,
        names::{RoomName, UserId},
        payload::json_of,
        timestamp::Timestamp,
    },
};

/// What the backend is told of a client.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Facts {
    pub client_id: ClientId,
    pub user_id: Option<UserId>,
    pub client_name: Arc<str>,
    pub namespace: Arc<str>,
    pub rooms: Vec<RoomName>,
    pub transport: &'static str,
    pub address: Option<IpAddr>,
    pub claims: Option<Arc<RawValue>>,
    pub data: Arc<RawValue>,
}

impl Facts {
    /// What is known at this moment of a client in these rooms.
    pub(super) fn of(client: &Client, mut rooms: Vec<RoomName>) -> Self {
        rooms.sort_unstable();
        let session = client.session();
        Self {
            client_id: client.id.clone(),
            user_id: session.user,
            client_name: client.name.clone(),
            namespace: client.namespace.path.clone(),
            rooms,
            transport: client.sender.transport(),
            address: client.address,
            claims: session.claims,
            data: client.data().unwrap_or_else(empty),
        }
    }
}

/// The object that every client has at first.
pub(super) fn empty() -> Arc<RawValue> {
    json_of(&serde_json::Map::new()).into()
}

/// The body of a request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Question<'a> {
    pub r#type: &'static str,
    pub id: &'a str,
    pub timestamp: Timestamp,
    pub node: &'a str,
    pub client: &'a Facts,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wants_ack: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
}

impl<'a> Question<'a> {
    /// A request of this kind about a client.
    pub(super) fn new(kind: Kind, id: &'a str, node: &'a str, client: &'a Facts) -> Self {
        Self {
            r#type: kind.as_str(),
            id,
            timestamp: Timestamp::now(),
            node,
            client,
            event: None,
            args: None,
            wants_ack: None,
            handshake: None,
            reason: None,
        }
    }

    /// The body's bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        Box::<str>::from(json_of(self)).into_string().into_bytes()
    }
}
