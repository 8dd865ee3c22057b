//! The outbox of webhooks that the nodes share, one in each instance. One node delivers from all, by a lease.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::BufMut;
use parking_lot::Mutex;
use redis::{Cmd, cmd};
use tokio::{sync::Notify, time::sleep};

use super::{
    Redis,
    intake::Kind,
    link::Link,
    millis,
    names::{room_of_part, room_part},
    scripts, values,
};
use crate::{
    limits::SenderId,
    protocol::names::UserId,
    store::{
        pending::Answer,
        types::{RoomKey, Settings, StoreError},
        webhook::{
            Announcement, FAILED_KEPT, Fact, FailedPlace, FailedWebhook, Fate, Settled, Stale,
            StoredWebhook, Stream, TOO_OLD, Webhook,
        },
    },
};

/// Who delivers is claimed as a user's queue is, under a name that no user has.
const CLAIM: &str = "\u{1f}webhooks";
/// Stands among the streams that have got webhooks where all that wait for another try are to be tried at once.
const NOW: &str = "now";
/// How often the node that delivers asks for streams that have got webhooks.
const LOOK: Duration = Duration::from_millis(50);
/// How many of them are taken at a time.
const NEWS: usize = 1000;
/// How often the figures are read.
const FIGURES: Duration = Duration::from_secs(1);

/// What the store's handles see of the outbox.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Whether this node delivers, as far as it knows.
    delivers: AtomicBool,
    /// The streams that have something new.
    streams: Mutex<HashSet<Stream>>,
    changed: Notify,
    /// What waits for another try is to be tried at once.
    hurried: Notify,
    pub figures: Mutex<Figures>,
}

/// How the outbox is, on all nodes together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Figures {
    pub pending: u64,
    pub dropped: u64,
    pub failed: u64,
    /// When the oldest one that waits happened, in milliseconds since 1970.
    pub oldest_ms: Option<i64>,
}

/// Keeps the outbox's view up to date for as long as the link lasts.
pub(super) async fn watch(link: Arc<Link>, outbox: Arc<Outbox>, node: String) {
    let (news, figures) = (follow(&link, &outbox, &node), read_figures(&link, &outbox));
    tokio::select! {
        () = news => {}
        () = figures => {}
        () = link.closed() => {}
    }
}

/// Takes the streams that have got webhooks, while this node delivers.
async fn follow(link: &Link, outbox: &Outbox, node: &str) {
    let mut news = scripts::WEBHOOK_NEWS.call(link.prefix());
    news.arg(node).arg(NEWS);
    let all = all_streams(link.prefix());
    // An answer that did not arrive may have had streams in it, which nobody gets again; and so may what
    // another node got.
    let mut is_sure = false;
    let place = link.place().0;
    loop {
        sleep(LOOK).await;
        if !outbox.delivers.load(Relaxed) {
            is_sure = false;
            continue;
        }
        let read = link.read(if is_sure { &news } else { &all }).await;
        // An unreachable Redis is reported elsewhere.
        let names = read.ok().and_then(|value| values::names(&value).ok());
        is_sure = names.is_some();
        let Some(names) = names.filter(|names| !names.is_empty()) else { continue };
        if names.iter().any(|name| name == NOW) {
            outbox.hurried.notify_one();
        }
        outbox.streams.lock().extend(streams(&names, place));
        outbox.changed.notify_one();
    }
}

/// The call for the streams in which webhooks wait.
fn all_streams(prefix: &str) -> Cmd {
    let mut call = cmd("ZRANGE");
    call.arg(format!("{prefix}:hooks")).arg(0).arg(-1);
    call
}

async fn read_figures(link: &Link, outbox: &Outbox) {
    loop {
        let read = link.read(&scripts::WEBHOOK_STATE.call(link.prefix())).await;
        if let Some(figures) = read.ok().and_then(|value| values::figures(&value).ok()) {
            *outbox.figures.lock() = figures;
        }
        sleep(FIGURES).await;
    }
}

/// Gives up what is too old.
pub(super) async fn sweep(link: &Link, settings: &Settings) -> Result<(), StoreError> {
    let now = settings.clock.now_ms();
    loop {
        let mut call = scripts::SWEEP_WEBHOOKS.call(link.prefix());
        call.arg(now.saturating_sub(millis(TOO_OLD)))
            .arg(now.saturating_sub(millis(FAILED_KEPT)).max(0))
            .arg(settings.webhook_limit);
        if values::number(&link.read(&call).await?)? == 0 {
            return Ok(());
        }
    }
}

impl Redis {
    pub(in crate::store) fn announce(&self, announcement: &Announcement) {
        let Announcement { webhook, fact, sender, .. } = announcement;
        let packed = self.pack_webhook(webhook.as_ref());
        let bytes = packed.len();
        let (kind, name) = match fact {
            None => ("", String::new()),
            Some((Fact::Node(node), _)) => ("node", node.clone()),
            Some((Fact::User(user), _)) => ("user", user.to_string()),
            Some((Fact::Room(room), _)) => ("room", room_part(room)),
        };
        let holds = fact.as_ref().is_some_and(|(_, holds)| *holds);
        let mut call = self.call(&scripts::ANNOUNCE);
        call.arg(packed).arg(kind).arg(name).arg(u8::from(holds));
        // Nobody waits for the answer.
        drop(self.submit(call, Kind::Count, sender.clone(), bytes));
    }

    pub(in crate::store) fn room_left(&self, room: &RoomKey, sender: SenderId) {
        let mut call = self.call(&scripts::ROOM_LEFT);
        call.arg(room_part(room));
        // Nobody waits for the answer.
        drop(self.submit(call, Kind::Count, Some(sender), 0));
    }

    pub(in crate::store) fn tell(&self, webhook: &Webhook) -> Answer {
        let packed = self.pack_webhook(Some(webhook));
        let bytes = packed.len();
        let mut call = self.call(&scripts::TELL);
        call.arg(packed);
        self.submit(call, Kind::Count, None, bytes)
    }

    pub(in crate::store) async fn changed_streams(&self) -> HashSet<Stream> {
        loop {
            let changed = self.outbox.changed.notified();
            let streams = std::mem::take(&mut *self.outbox.streams.lock());
            if !streams.is_empty() {
                return streams;
            }
            changed.await;
        }
    }

    pub(in crate::store) async fn webhooks_hurried(&self) {
        self.outbox.hurried.notified().await;
    }

    pub(in crate::store) async fn hurry_webhooks(&self) -> Result<(), StoreError> {
        let mut call = cmd("SADD");
        call.arg(format!("{}:hooks:changed", self.prefix())).arg(NOW);
        self.link.read(&call).await.map(drop)
    }

    pub(in crate::store) async fn failed_webhook_count(&self) -> Result<u64, StoreError> {
        let mut call = cmd("XLEN");
        call.arg(format!("{}:hooks:failed", self.prefix()));
        Ok(values::number(&self.link.read(&call).await?)?)
    }

    pub(in crate::store) async fn failed_webhooks(
        &self,
        after: FailedPlace,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<FailedWebhook>, StoreError> {
        let mut call = self.call(&scripts::FAILED_WEBHOOKS);
        call.arg(id(after)).arg(limit).arg(max_bytes);
        let mut failed = values::failed_webhooks(&self.link.read(&call).await?)?;
        for failed in &mut failed {
            failed.place.2 = self.place;
        }
        Ok(failed)
    }

    pub(in crate::store) async fn failed_webhook_ids(
        &self,
        after: FailedPlace,
        limit: usize,
    ) -> Result<Vec<(FailedPlace, String)>, StoreError> {
        let mut call = self.call(&scripts::FAILED_WEBHOOKS);
        call.arg(id(after)).arg(limit).arg(-1);
        let mut failed = values::failed_ids(&self.link.read(&call).await?)?;
        for (place, _) in &mut failed {
            place.2 = self.place;
        }
        Ok(failed)
    }

    pub(in crate::store) fn decide_webhooks(
        &self,
        failed: &[(FailedPlace, String)],
        fate: Fate,
    ) -> Answer {
        let mut call = self.call(&scripts::DECIDE_WEBHOOKS);
        call.arg(self.settings.webhook_limit)
            .arg(self.settings.clock.now_ms())
            .arg(u8::from(fate == Fate::Retried));
        for (place, _) in failed {
            call.arg(id(*place));
        }
        self.submit(call, Kind::Count, None, 32 * failed.len())
    }

    pub(in crate::store) async fn webhook_streams(&self) -> Result<HashSet<Stream>, StoreError> {
        let names = values::names(&self.link.read(&all_streams(self.prefix())).await?)?;
        Ok(streams(&names, self.place).collect())
    }

    pub(in crate::store) async fn webhooks(
        &self,
        stream: Stream,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<StoredWebhook>, StoreError> {
        let mut call = self.call(&scripts::WEBHOOK_PAGE);
        call.arg(hex(stream)).arg(limit).arg(max_bytes);
        Ok(values::webhooks(&self.link.read(&call).await?)?)
    }

    pub(in crate::store) fn settle_webhooks(&self, settled: &Settled) -> Answer {
        let mut call = self.call(&scripts::SETTLE_WEBHOOKS);
        call.arg(&self.node).arg(hex(settled.stream)).arg(self.settings.webhook_limit);
        match &settled.failed {
            Some((number, _, why)) => call.arg(number).arg(why),
            None => call.arg("").arg(""),
        };
        for (number, _) in &settled.delivered {
            call.arg(number);
        }
        self.submit(call, Kind::Count, None, 32 * settled.delivered.len())
    }

    /// Claims the delivery for this node, or renews its claim; `false` while another node has it. The node that has
    /// the claim in the first instance `takes` it in the others.
    pub(in crate::store) async fn claim_webhooks(
        &self,
        ttl: Duration,
        takes: bool,
    ) -> Result<bool, StoreError> {
        let claimed =
            self.claim(CLAIM, &self.node, if takes { "take" } else { "claim" }, ttl).await;
        self.outbox.delivers.store(matches!(claimed, Ok(true)), Relaxed);
        claimed
    }

    /// The claim is not to be used any more.
    pub(in crate::store) fn stop_delivering(&self) {
        self.outbox.delivers.store(false, Relaxed);
    }

    pub(in crate::store) async fn release_webhooks(&self) -> Result<bool, StoreError> {
        self.stop_delivering();
        self.claim(CLAIM, &self.node, "release", Duration::ZERO).await
    }

    pub(in crate::store) async fn told_nodes(
        &self,
    ) -> Result<(Vec<String>, Vec<String>), StoreError> {
        let value = self.link.read(&self.call(&scripts::TOLD_NODES)).await?;
        Ok(values::told_nodes(&value)?)
    }

    pub(in crate::store) async fn stale_facts(
        &self,
        of: Stale,
        cursor: &str,
    ) -> Result<(String, Vec<Fact>), StoreError> {
        let mut call = self.call(&scripts::TOLD);
        call.arg(match of {
            Stale::Users => "user",
            Stale::Rooms => "room",
            Stale::UntoldUsers => "untold-user",
            Stale::UntoldRooms => "untold-room",
        });
        call.arg(cursor);
        let (cursor, names) = values::told(&self.link.read(&call).await?)?;
        let facts = names.iter().filter_map(|name| match of {
            Stale::Users | Stale::UntoldUsers => UserId::parse(name).ok().map(Fact::User),
            Stale::Rooms | Stale::UntoldRooms => room_of_part(name).map(Fact::Room),
        });
        Ok((cursor, facts.collect()))
    }

    /// Notes that the backend was told that a room is occupied.
    pub(super) async fn note_told(&self, room: &RoomKey) -> Result<(), StoreError> {
        let mut note = cmd("SADD");
        note.arg(format!("{}:told:room", self.prefix())).arg(room_part(room));
        self.link.read(&note).await.map(drop)
    }

    /// Another instance knows now what the backend was told of a room.
    pub(super) async fn forget_told(&self, room: &RoomKey) -> Result<(), StoreError> {
        for (forget, kind) in [("SREM", "room"), ("SREM", "occupied"), ("HDEL", "left")] {
            let mut forget = cmd(forget);
            forget.arg(format!("{}:told:{kind}", self.prefix())).arg(room_part(room));
            self.link.read(&forget).await?;
        }
        Ok(())
    }

    /// A webhook as the scripts take it; empty for none.
    pub(super) fn pack_webhook(&self, webhook: Option<&Webhook>) -> Vec<u8> {
        let Some(Webhook { id, stream, at_ms, json }) = webhook else { return Vec::new() };
        let mut packed = Vec::with_capacity(40 + id.len() + json.len());
        packed.put_slice(hex(*stream).as_bytes());
        packed.put_u64(self.settings.webhook_limit);
        packed.put_i64(*at_ms);
        packed.put_u32(u32::try_from(id.len()).unwrap_or(u32::MAX));
        packed.put_slice(id.as_bytes());
        packed.put_slice(json.as_bytes());
        packed
    }
}

/// A stream as it stands in names of keys in Redis.
fn hex(stream: Stream) -> String {
    format!("{:016x}", stream.0)
}

/// The place of a webhook that was given up, as its id in this instance's stream of those.
fn id(place: FailedPlace) -> String {
    format!("{}-{}", place.0, place.1)
}

/// An instance's streams by their names.
fn streams(names: &[String], place: usize) -> impl Iterator<Item = Stream> {
    let number = |name: &String| u64::from_str_radix(name, 16).ok();
    names.iter().filter_map(number).map(move |number| Stream(number.cast_signed(), place))
}
