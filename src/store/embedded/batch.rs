//! One batch of writes in its transaction.

use std::sync::Arc;

use rusqlite::Connection;

use super::{
    idempotency,
    intake::Work,
    keys::Keys,
    log::{Window, expired_at},
    outbox::Change,
    pending::{Outcome, Past},
    queue, receipts, revocations,
    rooms::Rooms,
    types::{Append, Committed, Settings, StoreError},
};
use crate::store::idempotency::Once;

/// What the works of one transaction share.
pub(super) struct Batch<'a> {
    pub conn: &'a Connection,
    pub rooms: &'a mut Rooms,
    pub keys: &'a mut Keys,
    pub settings: &'a Settings,
    pub webhooks: &'a mut Change,
    /// How many receipts may still be deleted.
    pub budget: &'a mut usize,
    pub committed: &'a mut Vec<Committed>,
}

impl Batch<'_> {
    /// Does one piece of work inside the transaction: the outer error ends the batch, the inner one
    /// only this work.
    pub(super) fn perform(&mut self, work: Work) -> rusqlite::Result<Result<Outcome, StoreError>> {
        let Self { conn, settings, .. } = *self;
        match work {
            Work::Append { message, once } => {
                if let Some(known) = self.known(once.as_deref())? {
                    return Ok(known);
                }
                self.append(message, once.as_deref())
            }
            Work::Receipt { room, message_id, user, timestamp_ms } => {
                let recorded = match self.rooms.find(&room) {
                    Some(room) => receipts::record(
                        conn,
                        self.rooms,
                        room,
                        Window::new(settings),
                        &message_id,
                        &user,
                        timestamp_ms,
                    )?,
                    None => false,
                };
                Ok(Ok(u64::from(recorded).into()))
            }
            Work::Enqueue { user, sender, entry, webhook, once } => {
                match self.known(once.as_deref())? {
                    // The caller's own claim.
                    None | Some(Ok(Outcome { past: Some(Past::UnderWay), .. })) => {}
                    Some(known) => return Ok(known),
                }
                let expired_at = expired_at(settings.clock.now_ms(), settings.queue_ttl);
                let seq =
                    queue::enqueue(conn, settings, expired_at, &user, sender.as_ref(), &entry)?;
                if let (Ok(_), Some(webhook)) = (&seq, &webhook) {
                    self.webhooks.insert_message(conn, self.rooms, settings, webhook, None)?;
                }
                if let (Ok(seq), Some(once)) = (&seq, &once) {
                    idempotency::remember(conn, self.keys, settings, once, *seq)?;
                }
                Ok(seq.map(Outcome::from))
            }
            Work::Confirm { user, up_to } => Ok(Ok(queue::confirm(conn, &user, up_to)?.into())),
            Work::Announce(announcement) => {
                self.webhooks.announce(conn, self.rooms, settings, &announcement)?;
                Ok(Ok(1.into()))
            }
            Work::Tell(webhook) => {
                self.webhooks.insert_message(conn, self.rooms, settings, &webhook, None)?;
                Ok(Ok(1.into()))
            }
            Work::Settle(settled) => Ok(Ok(self.webhooks.settle(conn, settings, &settled)?.into())),
            Work::Decide { failed, fate } => {
                Ok(Ok(self.webhooks.decide(conn, self.rooms, settings, &failed, fate)?.into()))
            }
            Work::Revoke(revoked) => {
                let stored = revocations::revoke(conn, &revoked, settings.clock.now_ms())?;
                Ok(Ok(u64::from(stored).into()))
            }
            Work::Reinstate { id } => Ok(Ok(u64::from(revocations::reinstate(conn, &id)?).into())),
            Work::Claim { once, lease } => {
                idempotency::claim(conn, self.keys, settings, &once, lease)
            }
            Work::SettleClaim(once) => {
                idempotency::settle(conn, self.keys, settings, &once)?;
                Ok(Ok(1.into()))
            }
            Work::ReleaseClaim { key } => {
                idempotency::release(conn, self.keys, &key)?;
                Ok(Ok(1.into()))
            }
            // Done when the batch is committed.
            Work::Sweep => Ok(Ok(0.into())),
        }
    }

    /// The outcome of a write that is not to happen now.
    fn known(&self, once: Option<&Once>) -> rusqlite::Result<Option<Result<Outcome, StoreError>>> {
        match once {
            Some(once) => idempotency::look_up(self.conn, self.keys, self.settings, once),
            None => Ok(None),
        }
    }

    fn append(
        &mut self,
        message: Append,
        once: Option<&Once>,
    ) -> rusqlite::Result<Result<Outcome, StoreError>> {
        let Append { room: key, entry, except, sender, webhook } = message;
        let Self { conn, settings, .. } = *self;
        let found = self.rooms.find_or_create(conn, &key, sender.as_ref(), entry.timestamp_ms)?;
        let room = match found {
            Ok(room) => room,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let size = settings.history_size.max(1);
        let position = self.rooms.append(conn, room, &entry, &except, size, self.budget)?;
        if let Some(webhook) = &webhook {
            self.webhooks.insert_message(conn, self.rooms, settings, webhook, Some(position))?;
        }
        if let Some(once) = once {
            idempotency::remember(conn, self.keys, settings, once, position.offset)?;
        }
        self.committed.push(Committed { room: key, position, entry: Arc::new(entry), except });
        Ok(Ok(position.into()))
    }
}
