//! Private messages between users.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::Notify;

use crate::{
    app::App,
    audience::Except,
    clock::Timestamp,
    message_id::MessageId,
    names::UserId,
    outlet::Packet,
    payload::{ObjectBuilder, Payload, raw},
    refusal::{Code, Refusal},
    registry::Client,
    store::{Entry, Store},
};

/// A message from a client to a user.
#[derive(Debug)]
pub struct PrivateMessage {
    /// To whom.
    pub target: UserId,
    /// The target as the client gave it, in JSON.
    pub echo: Box<RawValue>,
    /// What to say, in JSON.
    pub content: Box<RawValue>,
    /// What kind of content it is.
    pub kind: &'static str,
    /// Its id.
    pub id: MessageId,
    /// The payload it came in, for its attachments.
    pub payload: Payload,
}

/// The kinds of content; the first is the default.
pub const KINDS: [&str; 4] = ["text", "image", "file", "notification"];

/// Sends a message to every client of a user.
///
/// # Errors
/// `not_found` where the user has no client and nothing may be queued for it.
pub async fn send(app: &App, client: &Client, message: PrivateMessage) -> Result<Payload, Refusal> {
    #[derive(Serialize)]
    struct Said<'a> {
        content: &'a RawValue,
        r#type: &'static str,
        timestamp: Timestamp,
    }
    let timestamp = Timestamp::now();
    let content = Said { content: &message.content, r#type: message.kind, timestamp };
    let json = ObjectBuilder::default()
        .raw("id", &message.id.json)
        .set("from", &client.user())
        .set("clientId", client.id.as_str())
        .set("message", &content)
        .set("timestamp", &timestamp)
        .build();
    let payload = message.payload.with_json(json);
    let packet = Packet::new("private-message", payload.clone());
    let delivered = app.bus.signal_user(&message.target, &packet, &Except::nobody()) > 0;
    app.bus.user_relieved(&message.target).await;
    let queued = !delivered;
    if queued {
        let entry = Entry {
            id: message.id.text.clone(),
            event: packet.event().to_owned(),
            json: payload.json().into(),
            attachments: payload.attachments().to_vec(),
            timestamp_ms: timestamp.as_millis(),
        };
        // Whoever writes to an offline user may fill but a part of its queue.
        let sender = client.user().map_or_else(|| client.id.to_string(), |user| user.to_string());
        queue(app, &message.target, Some(sender), entry).await?;
    }
    let sent = ObjectBuilder::default()
        .raw("target", &message.echo)
        .raw("id", &message.id.json)
        .set("delivered", &delivered)
        .set("queued", &queued)
        .set("timestamp", &timestamp)
        .build();
    client.outlet.send(&Packet::new("message-sent", Payload::from_raw(sent)));
    let ack = ObjectBuilder::default()
        .set("success", &true)
        .set("message", if delivered { "Message delivered" } else { "Message queued" })
        .raw("id", &message.id.json)
        .set("delivered", &delivered)
        .set("queued", &queued)
        .build();
    Ok(Payload::from_raw(ack))
}

/// Stores a message for a user without a client, until it next connects.
///
/// # Errors
/// `not_found` where nothing is queued: without authentication anyone could claim to be the user
/// and empty the queue; `queue_full`; `unavailable`.
pub async fn queue(
    app: &App,
    user: &UserId,
    sender: Option<String>,
    entry: Entry,
) -> Result<(), Refusal> {
    let Some(store) = queue_store(app) else {
        return Err(Refusal::new(Code::NotFound, "Target user not found or offline"));
    };
    store.enqueue(user.clone(), sender, entry).await?;
    // The user may have come while the message was being stored.
    if let Some(client) = newest_client(app, user) {
        deliver_queued(app, &client, user);
    }
    Ok(())
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
            let delivered = deliver_to(&app, &client, &user, &wake).await;
            if let Err(refusal) = &delivered {
                tracing::warn!(reason = %refusal.message, "an offline queue could not be delivered; it is kept");
            }
            // A client that went before it could confirm leaves the queue to the user's next one.
            let mut unconfirmed = matches!(delivered, Ok(false));
            client = loop {
                if !app.deliveries.go_on(&user, unconfirmed) {
                    return;
                }
                match newest_client(&app, &user) {
                    Some(next) => break next,
                    None => unconfirmed = false,
                }
            };
        }
    });
}

fn newest_client(app: &App, user: &UserId) -> Option<Arc<Client>> {
    app.registry.users.clients(user).pop()
}

/// Sends the queue as it stands; returns whether the client held on. A newer client of the user
/// takes its place: the older one may have lost its network without a word.
async fn deliver_to(
    app: &App,
    client: &Arc<Client>,
    user: &UserId,
    wake: &Notify,
) -> Result<bool, Refusal> {
    let Some(store) = queue_store(app) else { return Ok(true) };
    let mut last = 0;
    loop {
        last = send_queued(store, client, user, last).await?;
        if last == 0 {
            return Ok(true);
        }
        tokio::select! {
            () = tokio::time::sleep(app.config.queue_confirm) => break,
            () = wake.notified() => {}
        }
        if newest_client(app, user).is_some_and(|newest| !Arc::ptr_eq(&newest, client)) {
            return Ok(false);
        }
    }
    let held = client.namespace.client(client.id).is_some_and(|known| Arc::ptr_eq(&known, client));
    if held {
        store.confirm(user.clone(), last).await?;
    }
    Ok(held)
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
            let payload = Payload::restored(raw(&*item.entry.json), &item.entry.attachments);
            client.outlet.send(&Packet::new(item.entry.event.clone(), payload));
        }
        last = newest;
    }
}
