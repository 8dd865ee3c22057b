//! Clients that come in.

use std::{net::IpAddr, sync::Arc};

use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::{Handlers, answer::Todo, apply, question::Facts};
use crate::{
    commands::context::Context,
    hub::{Client, Namespace, Session},
    protocol::client_id::ClientId,
};

/// A client that wants to come in.
#[derive(Debug)]
pub struct Newcomer<'a> {
    /// Its id.
    pub id: &'a ClientId,
    /// The namespace.
    pub namespace: &'a Arc<Namespace>,
    /// What it is called so far.
    pub name: &'a Arc<str>,
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// `websocket` or `polling`.
    pub transport: &'static str,
    /// Its session so far: that of its token, if it has one.
    pub session: Session,
    /// Its handshake.
    pub handshake: &'a RawValue,
}

/// A client that the backend lets in.
#[derive(Debug)]
pub struct Admission {
    /// Its session.
    pub session: Session,
    /// What it is called, where the backend says so.
    pub name: Option<String>,
    /// What is to be done as soon as it is in.
    pub first: First,
}

/// What is to be done for a client as soon as it is in. If this is dropped before, the client has not come in
/// after all, and the backend is told so.
#[derive(Debug)]
pub struct First {
    pub(super) todo: Box<Todo>,
    pub(super) visit: Visit,
}

impl First {
    /// Does it. Only the client's own inbox may call this.
    pub async fn carry_out(self, context: &Context, client: &Arc<Client>) {
        let Self { todo, mut visit } = self;
        visit.gone = None;
        let Todo { data, steps, disconnect, .. } = *todo;
        if let Some(data) = data {
            client.set_data(data);
        }
        if let Err(refusal) = apply::carry_out(context, client, steps).await {
            tracing::warn!(client = %client.id, reason = %refusal, "a part of the backend's answer for a new client was refused");
        }
        if let Some(reason) = disconnect {
            client.disconnect(reason);
        }
    }
}

/// A client that the backend has let in, and that is not there yet.
#[derive(Debug)]
pub(super) struct Visit {
    pub handlers: Handlers,
    pub tasks: TaskTracker,
    pub runtime: Handle,
    /// What the backend is told if the client does not come.
    pub gone: Option<Box<Facts>>,
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(gone) = self.gone.take() {
            self.handlers.tell_end(&self.tasks, &self.runtime, *gone, "transport close".to_owned());
        }
    }
}
