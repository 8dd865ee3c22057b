//! Revoked tokens.

use super::{Redis, intake::Kind, scripts, values};
use crate::store::{
    pending::Answer,
    types::{MAX_REVOCATIONS, RevocationCursor, Revocations, Revoked, StoreError},
};

/// How many are read at once.
const PAGE: usize = 1000;

impl Redis {
    pub(in crate::store) fn revoke(&self, revoked: &Revoked) -> Answer {
        let Revoked { id, expires_at_ms, json } = revoked;
        let mut call = self.call(&scripts::REVOKE);
        call.arg(id).arg(expires_at_ms).arg(json).arg(MAX_REVOCATIONS);
        call.arg(self.settings.clock.now_ms());
        self.submit(call, Kind::Count, None, json.len())
    }

    pub(in crate::store) fn reinstate(&self, id: &str) -> Answer {
        let mut call = self.call(&scripts::REINSTATE);
        call.arg(id);
        self.submit(call, Kind::Count, None, 0)
    }

    pub(in crate::store) async fn revocations(
        &self,
        since: &RevocationCursor,
    ) -> Result<Revocations, StoreError> {
        let (mut cursor, mut is_all, mut items) = (since.clone(), false, Vec::new());
        loop {
            let mut call = self.call(&scripts::REVOCATIONS);
            call.arg(&cursor.epoch).arg(cursor.version).arg(PAGE);
            let read = values::revocations(&self.link.read(&call).await?)?;
            if read.epoch != cursor.epoch {
                // One was taken back meanwhile: this page is the first of all.
                (cursor.epoch, is_all) = (read.epoch, true);
                items.clear();
            }
            cursor.version = read.version;
            items.extend(read.items);
            if !read.more {
                return Ok(Revocations { cursor, is_all, items });
            }
        }
    }
}
