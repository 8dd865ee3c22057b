//! Keeps the node connected to each instance of Redis: one session after another.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use redis::Msg;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Event, Handler, Inner,
    instance::Instance,
    lease,
    listening::{Heard, Sink},
    message::{NodeMessage, VERSION, decode},
    session::{Away, Session, TIMEOUT},
};
use crate::store::{COMMITTED_TAG, Replaced, connection_name};

/// How long to wait before reconnecting: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// How long the channels may be silent, although this node's own beats should arrive.
const SILENCE: Duration = Duration::from_secs(10);

/// How many messages are handled before anything else is checked.
const BURST: usize = 1000;

/// Takes part in the cluster until it is closed.
pub(super) async fn run(inner: Arc<Inner>, handler: Handler) {
    let mut kept = JoinSet::new();
    for instance in &inner.instances {
        kept.spawn(keep(inner.clone(), instance.clone(), handler.clone()));
    }
    while kept.join_next().await.is_some() {}
}

/// Keeps the node connected to an instance until the cluster is closed.
async fn keep(inner: Arc<Inner>, instance: Arc<Instance>, handler: Handler) {
    let mut delay = RETRY.0;
    let mut number = 0;
    loop {
        number += 1;
        let why = tokio::select! {
            () = inner.closed.cancelled() => return,
            opened = open(&inner, &instance, number) => match opened {
                Ok((session, replaced, sink, heard)) => {
                    delay = RETRY.0;
                    tracing::info!(instance = instance.place + 1, session = number, "Redis is connected");
                    tokio::select! {
                        why = serve(&inner, &instance, &handler, &session, sink, heard) => why,
                        () = replaced.wait() => end(&instance, &session, Replaced::REASON),
                        () = expelled(&inner) => end(&instance, &session, "other nodes have another list of instances"),
                    }
                }
                Err(Away(why)) => why,
            },
        };
        if inner.closed.is_cancelled() {
            return;
        }
        if delay == RETRY.0 {
            tracing::warn!(
                instance = instance.place + 1,
                reason = why,
                "Redis is away: reconnecting"
            );
        }
        *instance.failing.lock() = why;
        sleep(delay).await;
        delay = (delay * 2).min(RETRY.1);
    }
}

/// Waits until other nodes have another list of instances than this one.
async fn expelled(inner: &Inner) {
    match &inner.store {
        Some(store) => store.expelled().await,
        None => std::future::pending().await,
    }
}

/// Begins a session: connects, subscribes to the node's channels, and takes the lease.
async fn open(
    inner: &Inner,
    instance: &Instance,
    number: u64,
) -> Result<(Session, Replaced, Sink, Heard), Away> {
    let name = connection_name(&inner.node);
    let own = instance.channels(inner);
    let (session, (mut sink, heard), replaced) =
        Session::open(&instance.primary, number, &name, &own).await?;
    if let Some(store) = &inner.store {
        // A node with another list of instances would miss what the others send.
        store.admitted().await;
    }
    let subscribed = timeout(TIMEOUT, sink.subscribe(&own)).await;
    if !matches!(subscribed, Ok(Ok(()))) {
        return Err(Away("the channels cannot be subscribed to".to_owned()));
    }
    if instance.place == 0 {
        lease::renew(inner, &session).await?;
        inner.users.rewrite();
    }
    inner.counters.sessions.inc();
    Ok((session, replaced, sink, heard))
}

/// Serves a session until it is lost or the cluster is closed; returns why it was lost.
async fn serve(
    inner: &Arc<Inner>,
    instance: &Arc<Instance>,
    handler: &Handler,
    session: &Session,
    sink: Sink,
    mut heard: Heard,
) -> String {
    let mut tasks = JoinSet::new();
    tasks.spawn(instance.subscriptions.clone().follow(
        session.clone(),
        instance.keys.clone(),
        sink,
    ));
    if instance.place == 0 {
        tasks.spawn(lease::hold(inner.clone(), session.clone()));
        // These finish what they have begun in Redis, and see themselves that the session is over.
        tokio::spawn(inner.users.clone().write(session.clone(), handler.clone()));
        tokio::spawn(inner.users.clone().depart(session.clone(), handler.clone()));
    } else {
        tasks.spawn(instance.clone().beat(inner.clone()));
    }
    instance.link.send_replace(Some(session.clone()));
    let why = loop {
        let first = tokio::select! {
            () = session.lost.cancelled() => break "a command failed",
            () = inner.closed.cancelled() => break "closed",
            // None of them ends by itself.
            _ended = tasks.join_next() => break "a task ended",
            first = timeout(SILENCE, heard.next()) => match first {
                Ok(Some(first)) => first,
                Ok(None) => break "the connection was closed",
                Err(_) => break "nothing was heard for too long",
            },
        };
        receive(inner, instance, handler, session, &first);
        for _ in 1..BURST {
            let Some(Some(next)) = heard.next().now_or_never() else { break };
            receive(inner, instance, handler, session, &next);
        }
    };
    end(instance, session, why)
}

/// Ends a session; returns why.
fn end(instance: &Instance, session: &Session, why: &str) -> String {
    session.lost.cancel();
    instance.link.send_replace(None);
    why.to_owned()
}

/// Handles a message from a channel.
fn receive(
    inner: &Arc<Inner>,
    instance: &Instance,
    handler: &Handler,
    session: &Session,
    message: &Msg,
) {
    inner.counters.received.inc();
    let bytes = message.get_payload_bytes();
    match bytes.first() {
        Some(&COMMITTED_TAG) => committed(inner, instance, session, message),
        Some(&VERSION) => signal(inner, instance, handler, bytes),
        _ => {
            tracing::debug!(
                channel = message.get_channel_name(),
                "what came is of another version"
            );
        }
    }
}

fn committed(inner: &Inner, instance: &Instance, session: &Session, message: &Msg) {
    let room = instance.keys.room_of(message.get_channel_name());
    let (Some(room), Some(store)) = (room, &inner.store) else { return };
    match store.committed(room, message.get_payload_bytes()) {
        Ok(message) => instance.subscriptions.arrived(session, &message),
        // The next message reveals the gap, and this one is read from the log.
        Err(error) => tracing::warn!(%error, "a room's message cannot be read"),
    }
}

fn signal(inner: &Inner, instance: &Instance, handler: &Handler, bytes: &[u8]) {
    let message = match decode(Bytes::copy_from_slice(bytes)) {
        Ok(message) => message,
        Err(error) => return tracing::debug!(%error, "what came cannot be read"),
    };
    let is_own = message.from == inner.node;
    match (message.word, &message.packet) {
        (NodeMessage::Unlogged { place: (namespace, room), except, number }, Some(packet)) => {
            let key = crate::store::RoomKey { namespace, room };
            let own = is_own.then_some(number);
            instance.subscriptions.arrived_unlogged(&key, packet, &except, own);
        }
        (NodeMessage::Mark { number }, _) if is_own => instance.hear(number),
        _ if is_own => {}
        (NodeMessage::Answer { id, answer }, _) => inner.asking.answered(id, message.from, answer),
        (word, _) => handler(Event::Message(Box::new(super::Message { word, ..message }))),
    }
}
