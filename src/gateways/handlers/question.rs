//! What the backend is sent.

use std::{net::IpAddr, sync::Arc};

use serde::Serialize;
use serde_json::value::RawValue;

use super::call::Kind;
use crate::{
    hub::{Client, Session},
    protocol::{
        names::{RoomName, UserId},
        payload::json_of,
        timestamp::Timestamp,
    },
};

/// What the backend is told of a client.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Facts<'a> {
    pub client_id: &'a str,
    pub user_id: Option<UserId>,
    pub client_name: &'a str,
    pub namespace: &'a str,
    pub rooms: Vec<RoomName>,
    pub transport: &'a str,
    pub address: Option<IpAddr>,
    pub claims: Option<Arc<RawValue>>,
    pub data: Arc<RawValue>,
}

impl<'a> Facts<'a> {
    /// What is known of a client at this moment.
    pub(super) fn of(client: &'a Client) -> Self {
        let session = client.session();
        Self {
            client_id: client.id.as_str(),
            user_id: session.user,
            client_name: &client.name,
            namespace: &client.namespace.path,
            rooms: sorted(client.rooms()),
            transport: client.sender.transport(),
            address: client.address,
            claims: session.claims,
            data: client.data().unwrap_or_else(empty),
        }
    }
}

fn sorted(mut rooms: Vec<RoomName>) -> Vec<RoomName> {
    rooms.sort_unstable();
    rooms
}

/// A client that has gone.
#[derive(Debug)]
pub(super) struct Gone {
    pub client_id: String,
    pub session: Session,
    pub name: String,
    pub namespace: Arc<str>,
    pub rooms: Vec<RoomName>,
    pub transport: &'static str,
    pub address: Option<IpAddr>,
    pub data: Arc<RawValue>,
    pub reason: String,
}

impl Gone {
    /// A client that was in these rooms.
    pub(super) fn of(client: &Client, rooms: Vec<RoomName>, reason: &str) -> Self {
        Self {
            client_id: client.id.to_string(),
            session: client.session(),
            name: client.name.to_string(),
            namespace: client.namespace.path.clone(),
            rooms: sorted(rooms),
            transport: client.sender.transport(),
            address: client.address,
            data: client.data().unwrap_or_else(empty),
            reason: reason.to_owned(),
        }
    }

    pub(super) fn facts(&self) -> Facts<'_> {
        Facts {
            client_id: &self.client_id,
            user_id: self.session.user.clone(),
            client_name: &self.name,
            namespace: &self.namespace,
            rooms: self.rooms.clone(),
            transport: self.transport,
            address: self.address,
            claims: self.session.claims.clone(),
            data: self.data.clone(),
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
    pub client: Facts<'a>,
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
    pub(super) fn new(kind: Kind, id: &'a str, node: &'a str, client: Facts<'a>) -> Self {
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
