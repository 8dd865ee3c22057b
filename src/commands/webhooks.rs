//! The webhooks that wait, and those that were given up: backends see them, have them tried again, or discard
//! them.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    context::Context,
    queries::{Coverage, Page, encode_cursor},
};
use crate::{
    broker::{survey::PageRequest, webhooks::body_of},
    protocol::{
        payload::raw,
        refusal::{Code, Refusal},
        timestamp::Timestamp,
    },
    store::{FailedPlace, FailedWebhook, Fate, Store},
};

/// The most bytes of bodies in one page.
const PAGE_BYTES: usize = 1_000_000;
/// How many of those that were given up are looked at, or decided on, in one step: no message waits for long.
const STEP: usize = 200;

/// How webhooks are, on all nodes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookState)]
pub struct State {
    /// The number of webhooks that wait, as of a second ago.
    pending: u64,
    /// When the oldest of them happened.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    oldest: Option<Timestamp>,
    /// The number of webhooks that were given up and are kept.
    failed: u64,
}

/// A webhook that was given up.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = FailedWebhook)]
pub struct GivenUp {
    /// Its `webhook-id`.
    id: String,
    /// When it was given up.
    #[schema(value_type = String, format = DateTime)]
    failed_at: Timestamp,
    /// Why its last attempt failed.
    error: String,
    /// The body that is sent.
    #[schema(value_type = Object)]
    body: Box<RawValue>,
}

impl GivenUp {
    fn of(failed: FailedWebhook) -> Self {
        let FailedWebhook { failed_at_ms, error, webhook, .. } = failed;
        let id = webhook.id.clone();
        // Without a body it could never be sent.
        let body = raw(body_of(webhook).unwrap_or_else(|| "null".to_owned()));
        Self { id, failed_at: Timestamp::from_millis(failed_at_ms), error, body }
    }
}

/// How webhooks are.
///
/// # Errors
/// `not_found` if none are sent; `unavailable` if the store cannot be read.
pub async fn state(context: &Context) -> Result<State, Refusal> {
    let store = store(context)?;
    let stats = store.stats();
    Ok(State {
        pending: stats.webhooks,
        oldest: stats.oldest_webhook_ms.map(Timestamp::from_millis),
        failed: store.failed_webhook_count().await?,
    })
}

/// The webhooks that were given up, in the order in which that happened.
///
/// # Errors
/// `not_found` if none are sent; `invalid_payload` for a cursor of another list; `unavailable` if the store cannot be
/// read.
pub async fn list(context: &Context, page: &PageRequest) -> Result<Page<GivenUp>, Refusal> {
    let store = store(context)?;
    let after = match &page.after {
        Some(after) => after
            .parse()
            .map_err(|_| Refusal::invalid("cursor must be the nextCursor of the page before"))?,
        None => FailedPlace::default(),
    };
    let total = usize::try_from(store.failed_webhook_count().await?).unwrap_or(usize::MAX);
    let failed = store.failed_webhooks(after, page.limit, PAGE_BYTES).await?;
    let next_cursor = match failed.last().map(|last| last.place) {
        Some(last) if !store.failed_webhook_ids(last, 1).await?.is_empty() => {
            Some(encode_cursor(&last.to_string()))
        }
        _ => None,
    };
    let items = failed.into_iter().map(GivenUp::of).collect();
    Ok(Page { items, total, next_cursor, coverage: Coverage::default() })
}

/// Decides on webhooks that were given up: on these, or on all. If all are tried again, so is at once what waits
/// for another try. Returns how many there were.
///
/// # Errors
/// `not_found` if none are sent; `unavailable` if the store cannot be reached. Some may be decided on then.
pub async fn decide(
    context: &Context,
    ids: Option<BTreeSet<String>>,
    fate: Fate,
) -> Result<u64, Refusal> {
    let store = store(context)?;
    let mut missing = ids.as_ref().map(BTreeSet::len);
    let (mut after, mut count) = (FailedPlace::default(), 0);
    while missing != Some(0) {
        let mut failed = store.failed_webhook_ids(after, STEP).await?;
        let Some(last) = failed.last() else { break };
        after = last.0;
        if let Some(ids) = &ids {
            failed.retain(|(_, id)| ids.contains(id));
            missing = missing.map(|missing| missing.saturating_sub(failed.len()));
        }
        if !failed.is_empty() {
            count += store.decide_webhooks(failed, fate).await?;
        }
    }
    if ids.is_none() && fate == Fate::Retried {
        store.hurry_webhooks().await?;
    }
    tracing::info!(count, ?fate, "webhooks that were given up were decided on");
    Ok(count)
}

fn store(context: &Context) -> Result<&Store, Refusal> {
    let sent = context.store.as_ref().filter(|_| context.broker.webhooks().is_some());
    sent.ok_or_else(|| {
        Refusal::new(Code::NotFound, "no webhooks are sent: set WEBHOOK_URL and WEBHOOK_SECRET")
    })
}
