//! What waits for users without a client, and how it is delivered when one comes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    app::App,
    clock::Timestamp,
    cluster::Word,
    limits::Sender,
    names::UserId,
    outlet::Packet,
    payload::Payload,
    refusal::{Code, Refusal},
    registry::Client,
    store::{Entry, Store},
};

/// Stores a message for a user without a client, until it next connects.
///
/// # Errors
/// `not_found` where nothing is queued: without authentication anyone could claim to be the user
/// and empty the queue; `queue_full`; `unavailable`.
pub async fn queue(
    app: &App,
    user: &UserId,
    sender: Option<Sender>,
    entry: Entry,
) -> Result<(), Refusal> {
    let Some(store) = queue_store(app) else {
        return Err(Refusal::new(Code::NotFound, "Target user not found or offline"));
    };
    store.enqueue(user.clone(), sender, entry).await?;
    // The user may have come while the message was being stored.
    wake(app, user);
    if let Some(cluster) = &app.cluster
        && !cluster.nodes_of(user).await?.is_empty()
    {
        cluster.tell(&Word::Wake { user: user.clone() }, None);
    }
    Ok(())
}

/// Delivers what is queued for a user, if it has a client on this node.
pub fn wake(app: &App, user: &UserId) {
    if let Some(client) = newest_client(app, user) {
        deliver_queued(app, &client, user);
    }
}

/// The number of messages that wait for a user.
///
/// # Errors
/// `unavailable` while the store cannot be read.
pub async fn queue_len(app: &App, user: &UserId) -> Result<u64, Refusal> {
    match queue_store(app) {
        Some(store) => Ok(store.queue_len(user).await?),
        None => Ok(0),
    }
}

fn queue_store(app: &App) -> Option<&Store> {
    app.store.as_ref().filter(|_| app.verifier.is_some() && app.config.queue_size > 0)
}

/// The users whose queues are being delivered, so that one client at a time gets them.
#[derive(Debug, Default)]
pub struct Deliveries {
    users: Mutex<HashMap<UserId, Delivery>>,
}

#[derive(Debug, Default)]
struct Delivery {
    /// Somebody asked once more while it was running.
    asked: bool,
    /// Another node is to have the queue.
    gives_way: bool,
    /// Told of it, so that nobody waits for the time of confirmation.
    wake: Arc<Notify>,
}

impl Deliveries {
    /// Begins a delivery, which is told through the answer when it should look once more; `None` if
    /// one is running, which is told.
    fn begin(&self, user: &UserId) -> Option<Arc<Notify>> {
        let mut users = self.users.lock();
        if let Some(delivery) = users.get_mut(user) {
            delivery.asked = true;
            delivery.wake.notify_one();
            return None;
        }
        let delivery = Delivery::default();
        let wake = delivery.wake.clone();
        users.insert(user.clone(), delivery);
        Some(wake)
    }

    /// The delivery that is running is to leave the queue to another node.
    fn give_way(&self, user: &UserId) {
        if let Some(delivery) = self.users.lock().get_mut(user) {
            delivery.gives_way = true;
            delivery.wake.notify_one();
        }
    }

    /// Whether the delivery has been told so.
    fn gives_way(&self, user: &UserId) -> bool {
        let mut users = self.users.lock();
        users.get_mut(user).is_some_and(|delivery| std::mem::take(&mut delivery.gives_way))
    }

    /// Whether the delivery goes on, because it should or because somebody asked meanwhile; if not,
    /// it has ended.
    fn go_on(&self, user: &UserId, should: bool) -> bool {
        let mut users = self.users.lock();
        let asked = users.get_mut(user).is_some_and(|delivery| std::mem::take(&mut delivery.asked));
        if !asked && !should {
            users.remove(user);
        }
        asked || should
    }
}

/// How much longer than a confirmation takes a node may hold a queue to itself without a sign of life.
const CLAIM: Duration = Duration::from_secs(10);

/// How often a node asks for a queue that another one holds.
const CLAIM_RETRY: Duration = Duration::from_secs(1);

/// How much of a queue is read at a time, in messages and bytes.
const QUEUE_PAGE: (usize, usize) = (100, 1_000_000);

/// Sends what was queued for a user to one of its clients. It is removed only after that client has
/// held its connection for `QUEUE_CONFIRM`: so it may arrive twice, and never zero times.
pub fn deliver_queued(app: &App, client: &Arc<Client>, user: &UserId) {
    if queue_store(app).is_none() {
        return;
    }
    let Some(wake) = app.deliveries.begin(user) else { return };
    let (app, mut client, user) = (app.clone(), client.clone(), user.clone());
    tokio::spawn(async move {
        loop {
            let mut unfinished = deliver_to(&app, &client, &user, &wake).await;
            client = loop {
                if !app.deliveries.go_on(&user, unfinished) {
                    return;
                }
                match newest_client(&app, &user) {
                    Some(next) => break next,
                    None => unfinished = false,
                }
            };
        }
    });
}

/// Another node has a client of the user that connected at this moment, and would deliver what is
/// queued. The newest client gets it: an older one may have lost its network without a word.
pub fn give_way(app: &App, user: &UserId, to: (Timestamp, &str)) {
    let own = newest_client(app, user);
    if own.is_none_or(|client| (client.connected_at, &*app.node) < to) {
        app.deliveries.give_way(user);
    }
}

fn newest_client(app: &App, user: &UserId) -> Option<Arc<Client>> {
    app.registry.users.clients(user).pop()
}

/// How a delivery ended.
enum Ended {
    /// There is nothing left.
    Done,
    /// The client did not hold on, or is not the newest one any more: to be delivered again.
    Unconfirmed,
    /// Another node has the queue.
    Elsewhere,
}

/// Delivers the queue as it stands; returns whether it is to be tried again.
async fn deliver_to(app: &App, client: &Arc<Client>, user: &UserId, wake: &Notify) -> bool {
    let Some(store) = queue_store(app) else { return false };
    let ended = match deliver_if_claimed(app, store, client, user, wake).await {
        Ok(ended) => ended,
        Err(refusal) => {
            tracing::warn!(reason = %refusal.message, "an offline queue could not be delivered; it is kept");
            // Another node's failure, or Redis', may be over soon, while the client stays.
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
    app: &App,
    store: &Store,
    client: &Arc<Client>,
    user: &UserId,
    wake: &Notify,
) -> Result<Ended, Refusal> {
    let Some(cluster) = &app.cluster else {
        return deliver_claimed(app, store, client, user, wake).await;
    };
    // A claim is a write: most users have nothing waiting.
    if store.queue_len(user).await? == 0 {
        return Ok(Ended::Done);
    }
    if !store.claim_queue(user, &app.node, claim_time(app)).await? {
        let since = client.connected_at;
        cluster.tell(&Word::Claim { user: user.clone(), since }, None);
        return Ok(Ended::Elsewhere);
    }
    let ended = deliver_claimed(app, store, client, user, wake).await;
    // If this fails, the claim ends by itself.
    let _released = store.release_queue(user, &app.node).await;
    if !matches!(ended, Ok(Ended::Done)) {
        // Whoever waits for the queue need not wait any longer.
        cluster.tell(&Word::Wake { user: user.clone() }, None);
    }
    ended
}

/// How long a queue is claimed for: longer than it takes to confirm what was sent.
fn claim_time(app: &App) -> Duration {
    app.config.queue_confirm + CLAIM
}

async fn deliver_claimed(
    app: &App,
    store: &Store,
    client: &Arc<Client>,
    user: &UserId,
    wake: &Notify,
) -> Result<Ended, Refusal> {
    let mut last = 0;
    loop {
        last = send_queued(store, client, user, last).await?;
        if last == 0 {
            return Ok(Ended::Done);
        }
        tokio::select! {
            () = tokio::time::sleep(app.config.queue_confirm) => break,
            () = wake.notified() => {}
        }
        if app.deliveries.gives_way(user) {
            return Ok(Ended::Elsewhere);
        }
        let is_newest = newest_client(app, user).is_none_or(|newest| Arc::ptr_eq(&newest, client));
        if !is_newest || !store.renew_queue(user, &app.node, claim_time(app)).await? {
            return Ok(Ended::Unconfirmed);
        }
    }
    let held = client.namespace.client(client.id).is_some_and(|known| Arc::ptr_eq(&known, client));
    if !held {
        return Ok(Ended::Unconfirmed);
    }
    store.confirm(user.clone(), last).await?;
    Ok(Ended::Done)
}

/// Sends what is queued after the place `last`; returns the last place that was sent.
async fn send_queued(
    store: &Store,
    client: &Client,
    user: &UserId,
    mut last: u64,
) -> Result<u64, Refusal> {
    let (limit, max_bytes) = QUEUE_PAGE;
    loop {
        let items = store.queued(user, last, limit, max_bytes).await?;
        let Some(newest) = items.last().map(|item| item.seq) else { return Ok(last) };
        for item in &items {
            client.outlet.room().await;
            let payload = Payload::stored(item.entry.json.clone(), &item.entry.attachments);
            client.outlet.send(&Packet::new(item.entry.event.clone(), payload));
        }
        last = newest;
    }
}
