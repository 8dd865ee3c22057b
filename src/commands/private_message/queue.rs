//! The queues of users without a client, and their delivery.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{sync::Notify, time::Instant};

use crate::{
    broker::cluster::NodeMessage,
    commands::context::Context,
    hub::{
        Client,
        packet::{KeptFor, Packet},
    },
    limits::SenderId,
    protocol::{
        names::UserId,
        payload::Payload,
        refusal::{Code, Refusal},
        timestamp::Timestamp,
    },
    store::{Done, Entry, Once, QueuedItem, Store},
};

/// Stores a message for a user without a client, until the user next connects; once if it has a key.
///
/// # Errors
/// `not_found` where nothing is queued: without authentication anyone could claim to be the user
/// and empty the queue; `queue_full`; `unavailable`.
pub async fn queue(
    context: &Context,
    user: &UserId,
    sender: Option<SenderId>,
    entry: Entry,
    once: Option<Once>,
) -> Result<(), Refusal> {
    let Some(store) = queue_store(context) else {
        return Err(Refusal::new(Code::NotFound, "Target user not found or offline"));
    };
    let webhooks = context.broker.webhooks();
    let webhook = webhooks.and_then(|webhooks| webhooks.of_queued(user, &entry));
    match once {
        None => {
            store.enqueue(user.clone(), sender, entry, webhook).await?;
        }
        Some(once) => {
            let queued = store.enqueue_once(user.clone(), sender, entry, webhook, once).await?;
            if !matches!(queued, Done::Now(_)) {
                return Ok(());
            }
        }
    }
    // The user may have connected while the message was being stored.
    wake(context, user);
    if let Some(cluster) = &context.cluster
        && !cluster.nodes_of(user).await?.is_empty()
    {
        cluster.tell(&NodeMessage::Wake { user: user.clone() }, None);
    }
    Ok(())
}

/// Delivers what is queued for a user, if it has a client on this node.
pub fn wake(context: &Context, user: &UserId) {
    if let Some(client) = newest_client(context, user) {
        deliver_queued(context, &client, user);
    }
}

/// The number of messages queued for a user.
///
/// # Errors
/// `unavailable` while the store cannot be read.
pub async fn queue_len(context: &Context, user: &UserId) -> Result<u64, Refusal> {
    match queue_store(context) {
        Some(store) => Ok(store.queue_len(user).await?),
        None => Ok(0),
    }
}

fn queue_store(context: &Context) -> Option<&Store> {
    let is_queued = context.config.users_prove() && context.config.queue_size > 0;
    context.store.as_ref().filter(|_| is_queued)
}

/// How much longer than `QUEUE_CONFIRM` a claim on a queue lasts without renewal.
const CLAIM: Duration = Duration::from_secs(10);

/// How often a node asks for a queue that another node holds.
const CLAIM_RETRY: Duration = Duration::from_secs(1);

/// How often a node renews its claim on a queue that it delivers.
const CLAIM_RENEWAL: Duration = Duration::from_secs(2);

/// How many messages of a queue are read and sent at a time, at most.
const QUEUE_PAGE: usize = 100;

/// Sends a user's queue to one of its clients, page by page. A page is removed only after the client has
/// answered a probe sent behind it and has then stayed connected for `QUEUE_CONFIRM`. So a page may arrive
/// twice, but is never lost.
pub fn deliver_queued(context: &Context, client: &Arc<Client>, user: &UserId) {
    if queue_store(context).is_none() {
        return;
    }
    let Some(wake) = context.deliveries.begin(user) else { return };
    let (context, mut client, user) = (context.clone(), client.clone(), user.clone());
    tokio::spawn(async move {
        loop {
            let mut unfinished = deliver_to(&context, &client, &user, &wake).await;
            client = loop {
                if !context.deliveries.go_on(&user, unfinished) {
                    return;
                }
                match newest_client(&context, &user) {
                    Some(next) => break next,
                    None => unfinished = false,
                }
            };
        }
    });
}

/// Another node asks for the queue, for a client of the user that connected at `to`. The newest client gets
/// it: an older one may have lost its network unnoticed.
pub fn give_way(context: &Context, user: &UserId, to: (Timestamp, &str)) {
    let own = newest_client(context, user);
    if own.is_none_or(|client| (client.connected_at, &*context.node) < to) {
        context.deliveries.give_way(user);
    }
}

fn newest_client(context: &Context, user: &UserId) -> Option<Arc<Client>> {
    context.registry.users.clients(user).pop()
}

/// How a delivery ended.
enum Ended {
    /// There is nothing left.
    Done,
    /// The client left too early, or is no longer the newest: the queue must be delivered again.
    Unconfirmed,
    /// Another node holds the queue.
    Elsewhere,
}

/// Delivers the queue once; returns whether to try again.
async fn deliver_to(context: &Context, client: &Arc<Client>, user: &UserId, wake: &Notify) -> bool {
    let Some(store) = queue_store(context) else { return false };
    let ended = match deliver_if_claimed(context, store, client, user, wake).await {
        Ok(ended) => ended,
        Err(refusal) => {
            tracing::warn!(reason = %refusal.message, "an offline queue could not be delivered; it is kept");
            // A failure of another node or of Redis may be over soon, while the client stays.
            if store.is_shared() { Ended::Elsewhere } else { Ended::Done }
        }
    };
    if matches!(ended, Ended::Elsewhere) {
        tokio::select! {
            () = tokio::time::sleep(CLAIM_RETRY) => {}
            () = wake.notified() => {}
        }
    }
    !matches!(ended, Ended::Done)
}

async fn deliver_if_claimed(
    context: &Context,
    store: &Store,
    client: &Arc<Client>,
    user: &UserId,
    wake: &Notify,
) -> Result<Ended, Refusal> {
    let Some(cluster) = &context.cluster else {
        return deliver_claimed(context, store, client, user, wake).await;
    };
    // Checked first: a claim is a write, and most users have nothing queued.
    if store.queue_len(user).await? == 0 {
        return Ok(Ended::Done);
    }
    if !store.claim_queue(user, &context.node, claim_time(context)).await? {
        let since = client.connected_at;
        cluster.tell(&NodeMessage::Claim { user: user.clone(), since }, None);
        return Ok(Ended::Elsewhere);
    }
    let ended = tokio::select! {
        ended = deliver_claimed(context, store, client, user, wake) => ended,
        () = keep_claim(context, store, user) => Ok(Ended::Unconfirmed),
    };
    // If this fails, the claim expires by itself.
    let _released = store.release_queue(user, &context.node).await;
    if !matches!(ended, Ok(Ended::Done)) {
        // A node that waits for the queue need not wait any longer.
        cluster.tell(&NodeMessage::Wake { user: user.clone() }, None);
    }
    ended
}

/// How long a claim lasts: longer than a confirmation takes.
fn claim_time(context: &Context) -> Duration {
    context.config.queue_confirm + CLAIM
}

/// Renews the claim until a renewal is refused. A failure of Redis does not end it: the confirmation tells
/// whether the claim was kept.
async fn keep_claim(context: &Context, store: &Store, user: &UserId) {
    loop {
        tokio::time::sleep(CLAIM_RENEWAL).await;
        if let Ok(false) = store.renew_queue(user, &context.node, claim_time(context)).await {
            return;
        }
    }
}

async fn deliver_claimed(
    context: &Context,
    store: &Store,
    client: &Arc<Client>,
    user: &UserId,
    wake: &Notify,
) -> Result<Ended, Refusal> {
    // What a recovered client was sent on its old connection it gets from its journal, not from here.
    let mut sent_up_to = client.queue_sent();
    // The last sequence number of each page that the client has, and when the page counts as confirmed.
    let mut held = VecDeque::new();
    if sent_up_to > 0 {
        if !client.sender.confirm_delivery().await {
            return Ok(Ended::Unconfirmed);
        }
        held.push_back((sent_up_to, Instant::now() + context.config.queue_confirm));
    }
    loop {
        while let Some(last) = send_page(store, client, user, sent_up_to).await? {
            sent_up_to = last;
            tokio::select! {
                has_it = client.sender.confirm_delivery() => if !has_it {
                    return Ok(Ended::Unconfirmed);
                },
                ended = interruption(context, client, user, wake) => return Ok(ended),
            }
            held.push_back((last, Instant::now() + context.config.queue_confirm));
            while held.front().is_some_and(|(_, until)| *until <= Instant::now()) {
                let Some((last, _)) = held.pop_front() else { break };
                if !confirm(context, store, client, user, last).await? {
                    return Ok(Ended::Unconfirmed);
                }
            }
        }
        let Some(&(last, until)) = held.front() else { return Ok(Ended::Done) };
        tokio::select! {
            () = tokio::time::sleep_until(until) => {
                held.pop_front();
                if !confirm(context, store, client, user, last).await? {
                    return Ok(Ended::Unconfirmed);
                }
            }
            () = wake.notified() => {
                if let Some(ended) = interrupted(context, client, user) {
                    return Ok(ended);
                }
            }
        }
    }
}

/// Waits until this client is no longer to have the queue.
async fn interruption(
    context: &Context,
    client: &Arc<Client>,
    user: &UserId,
    wake: &Notify,
) -> Ended {
    loop {
        wake.notified().await;
        if let Some(ended) = interrupted(context, client, user) {
            return ended;
        }
    }
}

/// How the delivery to this client ends, if another client or node is to have the queue.
fn interrupted(context: &Context, client: &Arc<Client>, user: &UserId) -> Option<Ended> {
    if context.deliveries.gives_way(user) {
        return Some(Ended::Elsewhere);
    }
    let newest = newest_client(context, user);
    let is_newest = newest.is_none_or(|newest| Arc::ptr_eq(&newest, client));
    (!is_newest).then_some(Ended::Unconfirmed)
}

/// Removes what the client has, up to this sequence number. Returns false if the client is gone, or the claim
/// is no longer this node's.
async fn confirm(
    context: &Context,
    store: &Store,
    client: &Arc<Client>,
    user: &UserId,
    up_to: u64,
) -> Result<bool, Refusal> {
    let known = client.namespace.client(&client.id);
    if !known.is_some_and(|known| Arc::ptr_eq(&known, client)) {
        return Ok(false);
    }
    Ok(store.confirm(user.clone(), up_to, &context.node).await?.is_some())
}

/// Sends a page of the queue from after `after` on; returns the last sequence number sent.
async fn send_page(
    store: &Store,
    client: &Client,
    user: &UserId,
    after: u64,
) -> Result<Option<u64>, Refusal> {
    let items = store.queued(user, after, QUEUE_PAGE, client.sender.piece_bytes()).await?;
    let last = items.last().map(|item| item.seq);
    let bytes = items.iter().map(|item| item.entry.size()).sum();
    let mut charge = client.sender.account().charge_outgoing(bytes);
    for QueuedItem { seq, entry } in items {
        client.sender.room().await;
        // From here on it is charged as unsent data.
        charge.give_back(entry.size());
        let payload = Payload::stored(entry.json, &entry.attachments);
        let packet = Packet::new(entry.event, payload);
        if client.sender.journal().is_some() {
            client.sender.send(&packet.kept_for(KeptFor::Direct));
            client.note_queue_sent(seq);
        } else {
            client.sender.send(&packet);
        }
    }
    Ok(last)
}
