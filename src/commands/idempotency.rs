//! Twice sent, once done: a write with a key is done once within `IDEMPOTENCY_WINDOW`, and its sender gets the same answer
//! when it sends it again.
//!
//! A message is stored together with its key. A signal, which may be lost anyway, is remembered just before it is sent.
//! Everything else claims its key first, is done, and leaves its answer there; others with the same key wait for that.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest::{Context as Hash, SHA256};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep};

use super::{context::Context, event::Incoming};
use crate::{
    hub::Client,
    limits::SenderId,
    protocol::{
        names::{MAX_IDEMPOTENCY_KEY, RoomName},
        payload::{Object, Payload, json_of},
        refusal::{Code, Refusal},
    },
    store::{Digest, Done, Once, Store},
};

/// The field of a payload that gives its key.
const FIELD: &str = "idempotencyKey";

/// How long a claim lasts besides the time that its write may take.
const LEASE: Duration = Duration::from_secs(20);

/// How long to wait before asking again whether a write that is under way is done: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// The key that an event's payload gives, if any.
#[derive(Debug, Default)]
pub(super) struct Given {
    key: Option<String>,
    /// The payload's `id`, if it is a string.
    id: Option<String>,
    /// What the key belongs to, where the application's backend has changed the payload since.
    origin: Option<Payload>,
    /// Whether the payload has the field.
    is_in_payload: bool,
}

impl Given {
    /// Reads an event's payload.
    ///
    /// # Errors
    /// `invalid_payload` if there is a key that is none.
    pub(super) fn read(incoming: &Incoming<'_>, payload: &Object<'_>) -> Result<Self, Refusal> {
        let origin = incoming.origin();
        let (key, id) = match origin.map(Payload::json) {
            None => read(payload)?,
            Some(json) => Object::parse(&json).as_ref().map_or(Ok((None, None)), read)?,
        };
        let is_in_payload = payload.get(FIELD).is_some();
        Ok(Self { key, id, origin: origin.cloned(), is_in_payload })
    }

    /// Whether the payload may have a key.
    pub(super) fn may_be_key(&self) -> bool {
        self.key.is_some() || self.id.is_some()
    }

    /// The payload as it goes out, which is this object: without the key.
    ///
    /// # Errors
    /// `invalid_payload` if its attachments are not what stands in it.
    pub(super) fn payload(
        &self,
        incoming: &Incoming<'_>,
        object: &Object<'_>,
    ) -> Result<Payload, Refusal> {
        if self.is_in_payload {
            return incoming.payload_without(object, FIELD);
        }
        incoming.payload()
    }

    /// The key of this client's event, if it has one. Its scope is the user, the event and the room; of what goes to
    /// everyone, the `namespace` takes the room's place.
    pub(super) fn keyed(
        &self,
        context: &Context,
        client: &Client,
        event: &str,
        namespace: Option<&str>,
        room: Option<&RoomName>,
        payload: &Payload,
    ) -> Option<Keyed> {
        let config = &context.config;
        let id = self.id.as_ref().filter(|id| config.idempotency_by_id && !id.is_empty());
        let key = self.key.as_ref().or(id)?;
        if config.idempotency_window.is_zero() {
            return None;
        }
        let (kind, who) = match client.user() {
            Some(user) => ("user", user.to_string()),
            None => ("client", client.id.to_string()),
        };
        let room = room.map_or("", RoomName::as_str);
        let scope = [kind, &who, event, namespace.unwrap_or(""), room, key];
        let payload = self.origin.as_ref().unwrap_or(payload);
        let text = payload.json();
        let attachments = payload.attachments().iter().map(|bytes| &bytes[..]);
        Some(Keyed {
            key: digest_of(scope.map(str::as_bytes)),
            content: digest_of(std::iter::once(text.as_bytes()).chain(attachments)),
            sender: Some(context.sender_id(client)),
        })
    }
}

/// The key and the id of a payload.
fn read(payload: &Object<'_>) -> Result<(Option<String>, Option<String>), Refusal> {
    let text = |field| serde_json::from_str::<String>(payload.get(field)?.get()).ok();
    let key = text(FIELD);
    let is_key = |key: &String| !key.is_empty() && key.chars().nth(MAX_IDEMPOTENCY_KEY).is_none();
    if payload.get(FIELD).is_some() && !key.as_ref().is_some_and(is_key) {
        let message = format!("{FIELD} must be a string of 1 to {MAX_IDEMPOTENCY_KEY} characters");
        return Err(Refusal::invalid(message));
    }
    Ok((key, text("id")))
}

/// A key within its scope, and the content that it belongs to.
#[derive(Debug, Clone)]
pub struct Keyed {
    key: Digest,
    content: Digest,
    /// The sender that is charged for it; `None` for a backend.
    sender: Option<SenderId>,
}

impl Keyed {
    /// The key of a backend's request: its scope, whose last part is the key, and the content.
    pub fn of_backend<'a>(
        scope: impl IntoIterator<Item = &'a [u8]>,
        content: impl IntoIterator<Item = &'a [u8]>,
    ) -> Self {
        Self { key: digest_of(scope), content: digest_of(content), sender: None }
    }

    /// The key of one part of what is done.
    #[must_use]
    pub fn part(&self, place: usize, name: &str) -> Self {
        let place = place.to_be_bytes();
        let key = digest_of([&self.key[..], &place, name.as_bytes()]);
        Self { key, ..self.clone() }
    }

    /// The same for the store, with what is needed to answer again.
    pub(super) fn once(self, answer: impl Into<Arc<str>>) -> Once {
        let Self { key, content, sender } = self;
        Once { key, content, sender, answer: answer.into() }
    }
}

/// The digest of these parts, which cannot run into one another.
fn digest_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut hash = Hash::new(&SHA256);
    for part in parts {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let whole = hash.finish();
    let mut half = Digest::default();
    half.copy_from_slice(&whole.as_ref()[..size_of::<Digest>()]);
    half
}

/// What is kept with a key, as text.
pub(super) fn kept<T: Serialize>(answer: &T) -> String {
    Box::<str>::from(json_of(answer)).into_string()
}

/// What was kept with a key.
///
/// # Errors
/// `unavailable` if another version of the server has kept it.
pub(super) fn repeated<T: DeserializeOwned>(kept: &str) -> Result<T, Refusal> {
    let message = "this was done before, but its answer is no longer available";
    serde_json::from_str(kept).map_err(|_| Refusal::new(Code::Unavailable, message))
}

/// Remembers the key of something that is done now and cannot fail; if it was done before, returns what was kept then.
///
/// # Errors
/// `idempotency_mismatch`; `unavailable`.
pub(super) async fn remember(
    context: &Context,
    keyed: Option<Keyed>,
    kept: impl FnOnce() -> String,
) -> Result<Option<Arc<str>>, Refusal> {
    let (Some(keyed), Some(store)) = (keyed, &context.store) else { return Ok(None) };
    match store.remember(keyed.once(kept())).await? {
        Done::Now(()) => Ok(None),
        Done::Before(before) => Ok(Some(before.answer)),
        Done::UnderWay => Err(under_way()),
    }
}

/// How a write begins.
pub enum Begun {
    /// It is to be done.
    Go(Claim),
    /// It was done before; this is needed to answer again.
    Before(Arc<str>),
}

/// The right to do a write with a key, or any write without one. Dropped, it lets others try.
pub struct Claim(Option<(Store, Keyed)>);

impl Claim {
    /// What the store is to remember with a write of its own, if there is a key.
    pub(super) fn once(&self, answer: String) -> Option<Once> {
        self.0.as_ref().map(|(_, keyed)| keyed.clone().once(answer))
    }

    /// The write is done and remembered.
    pub(super) fn remembered(mut self) {
        self.0 = None;
    }

    /// The write is done, and this is needed to answer again.
    pub async fn settle(mut self, answer: impl Into<Arc<str>>) {
        let Some((store, keyed)) = self.0.take() else { return };
        if let Err(error) = store.settle_claim(keyed.once(answer)).await {
            tracing::warn!(%error, "an idempotency key could not be kept: the same write would be done again");
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some((store, keyed)) = self.0.take() {
            // If that fails, the claim ends by itself.
            drop(store.release_claim(keyed.key));
        }
    }
}

/// Begins a write that may take this long. Waits while somebody else does the same.
///
/// # Errors
/// `idempotency_mismatch`; `unavailable` if the first one takes too long, or the store cannot be reached.
pub async fn begin(
    context: &Context,
    keyed: Option<Keyed>,
    takes: Duration,
) -> Result<Begun, Refusal> {
    let (Some(keyed), Some(store)) = (keyed, &context.store) else {
        return Ok(Begun::Go(Claim(None)));
    };
    let lease = takes + LEASE;
    let mut turn = Turn::within(lease + PAUSES.1);
    loop {
        match store.claim(keyed.clone().once(""), lease).await? {
            Done::Now(()) => return Ok(Begun::Go(Claim(Some((store.clone(), keyed))))),
            Done::Before(before) => return Ok(Begun::Before(before.answer)),
            Done::UnderWay => turn.pause().await?,
        }
    }
}

/// Waits for a write that is under way.
pub(super) struct Turn {
    deadline: Instant,
    pause: Duration,
}

impl Turn {
    fn within(time: Duration) -> Self {
        Self { deadline: Instant::now() + time, pause: PAUSES.0 }
    }

    /// Waits for as long as a claim may last.
    pub(super) fn of_message() -> Self {
        Self::within(LEASE + PAUSES.1)
    }

    /// Waits a little longer than before.
    ///
    /// # Errors
    /// `unavailable` if that would be too long.
    pub(super) async fn pause(&mut self) -> Result<(), Refusal> {
        if Instant::now() >= self.deadline {
            return Err(under_way());
        }
        sleep(self.pause).await;
        self.pause = PAUSES.1.min(self.pause * 2);
        Ok(())
    }
}

/// Somebody else does the same, for longer than anybody waits.
pub(super) fn under_way() -> Refusal {
    let message =
        "the first request with this idempotency key is still in progress: try again later";
    Refusal::new(Code::Unavailable, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_scope_cannot_run_into_one_another() {
        let digest = |parts: &[&str]| digest_of(parts.iter().map(|part| part.as_bytes()));
        let all = [
            digest(&["a", "bc"]),
            digest(&["ab", "c"]),
            digest(&["abc"]),
            digest(&["abc", ""]),
            digest(&["", "abc"]),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{at}");
        }
        // Stored: may never change.
        assert_eq!(all[0], digest(&["a", "bc"]));
    }

    #[test]
    fn a_key_is_a_string_of_up_to_200_characters() {
        let read = |json: &str| read(&Object::parse(json).unwrap());
        let key = |key: &str| read(&format!(r#"{{"idempotencyKey":{key}}}"#));
        assert_eq!(key(r#""k""#).unwrap(), (Some("k".to_owned()), None));
        assert_eq!(key("null").unwrap(), (None, None));
        let longest = "ü".repeat(200);
        assert_eq!(key(&format!("\"{longest}\"")).unwrap().0, Some(longest.clone()));
        for wrong in [r#""""#, "7", "true", "{}", "[]", &format!("\"{longest}x\"")] {
            assert_eq!(key(wrong).unwrap_err().code, Code::InvalidPayload, "{wrong}");
        }
        assert_eq!(read(r#"{"id":"x"}"#).unwrap(), (None, Some("x".to_owned())));
        assert_eq!(read(r#"{"id":7}"#).unwrap(), (None, None));
    }
}
