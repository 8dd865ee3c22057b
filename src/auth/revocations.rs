//! Revoked tokens: which are no longer good although their signature is.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::protocol::{names::UserId, timestamp::Timestamp};

/// What a revocation of a token goes by, beside its user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// The token's `jti`.
    pub jti: Option<Arc<str>>,
    /// The token's `iat`.
    pub at: Option<SystemTime>,
}

/// Tokens that are no longer good: those that match everything that is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revocation {
    /// Its id.
    pub id: String,
    /// The token of this `jti`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<Arc<str>>,
    /// The tokens of this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// The tokens whose `iat` is earlier; one without counts as older.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_before: Option<Timestamp>,
    /// Until when.
    pub expires_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Revocation {
    fn matches(&self, user: &UserId, issued: &Issued, now: Timestamp) -> bool {
        let is_older = |before: Timestamp| issued.at.is_none_or(|at| at < system_time(before));
        self.expires_at > now
            && self.user_id.as_ref().is_none_or(|revoked| revoked == user)
            && self.jti.as_ref().is_none_or(|jti| issued.jti.as_ref() == Some(jti))
            && self.issued_before.is_none_or(is_older)
    }
}

fn system_time(moment: Timestamp) -> SystemTime {
    let millis = u64::try_from(moment.as_millis()).unwrap_or(0);
    UNIX_EPOCH + Duration::from_millis(millis)
}

/// All revocations, found by the token's `jti` or, where a revocation has none, by its user.
#[derive(Debug, Default)]
pub struct RevocationList {
    all: HashMap<String, Arc<Revocation>>,
    of_jti: HashMap<Arc<str>, Vec<Arc<Revocation>>>,
    of_user: HashMap<UserId, Vec<Arc<Revocation>>>,
}

impl RevocationList {
    /// Adds one; once more changes nothing.
    pub fn add(&mut self, revocation: Revocation) {
        let revocation = Arc::new(revocation);
        if self.all.insert(revocation.id.clone(), revocation.clone()).is_some() {
            return;
        }
        match (&revocation.jti, &revocation.user_id) {
            (Some(jti), _) => self.of_jti.entry(jti.clone()).or_default().push(revocation),
            (None, Some(user)) => self.of_user.entry(user.clone()).or_default().push(revocation),
            (None, None) => {}
        }
    }

    /// Takes one back.
    pub fn remove(&mut self, id: &str) {
        let Some(revocation) = self.all.remove(id) else { return };
        if let Some(jti) = &revocation.jti {
            forget(&mut self.of_jti, jti, id);
        } else if let Some(user) = &revocation.user_id {
            forget(&mut self.of_user, user, id);
        }
    }

    /// Forgets those that are over.
    pub fn expire(&mut self, now: Timestamp) {
        let over = self.all.values().filter(|revocation| revocation.expires_at <= now);
        let over = over.map(|revocation| revocation.id.clone()).collect::<Vec<_>>();
        for id in over {
            self.remove(&id);
        }
    }

    /// Whether a token of this user is revoked.
    pub fn is_revoked(&self, user: &UserId, issued: &Issued, now: Timestamp) -> bool {
        let of_token = issued.jti.as_ref().and_then(|jti| self.of_jti.get(jti));
        let mut candidates = of_token.into_iter().chain(self.of_user.get(user)).flatten();
        candidates.any(|revocation| revocation.matches(user, issued, now))
    }

    /// Those in force, in no order.
    pub fn in_force(&self, now: Timestamp) -> impl Iterator<Item = &Arc<Revocation>> {
        self.all.values().filter(move |revocation| revocation.expires_at > now)
    }
}

fn forget<K: std::hash::Hash + Eq>(
    index: &mut HashMap<K, Vec<Arc<Revocation>>>,
    key: &K,
    id: &str,
) {
    if let Some(known) = index.get_mut(key) {
        known.retain(|revocation| revocation.id != id);
        if known.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn issued(jti: Option<&str>, seconds_ago: Option<i64>) -> Issued {
        let at = |ago: i64| system_time(Timestamp::from_millis(NOW - 1000 * ago));
        Issued { jti: jti.map(Arc::from), at: seconds_ago.map(at) }
    }

    fn revocation(
        id: &str,
        jti: Option<&str>,
        of: Option<&str>,
        before: Option<i64>,
    ) -> Revocation {
        Revocation {
            id: id.to_owned(),
            jti: jti.map(Arc::from),
            user_id: of.map(user),
            issued_before: before.map(|ago| Timestamp::from_millis(NOW - 1000 * ago)),
            expires_at: Timestamp::from_millis(NOW + 1),
            created_at: Timestamp::from_millis(NOW),
        }
    }

    #[test]
    fn all_that_is_given_must_match() {
        let now = Timestamp::from_millis(NOW);
        let cases = [
            ((Some("a"), None, None), [true, false, true, true]),
            ((None, Some("ann"), None), [true, true, true, false]),
            ((None, Some("ann"), Some(60)), [false, true, true, false]),
            ((Some("a"), Some("ann"), None), [true, false, true, false]),
            ((Some("a"), None, Some(60)), [false, false, true, true]),
            ((Some("b"), Some("ann"), None), [false; 4]),
        ];
        let tokens = [
            ("ann", issued(Some("a"), Some(60))),
            ("ann", issued(None, Some(61))),
            ("ann", issued(Some("a"), None)),
            ("ben", issued(Some("a"), Some(100))),
        ];
        for ((jti, of, before), wanted) in cases {
            let mut list = RevocationList::default();
            list.add(revocation("1", jti, of, before));
            let is_revoked =
                |(name, issued): &(&str, Issued)| list.is_revoked(&user(name), issued, now);
            let revoked = tokens.each_ref().map(is_revoked);
            assert_eq!(revoked, wanted, "{jti:?} {of:?} {before:?}");
            list.remove("1");
            assert!(tokens.iter().all(|(name, issued)| !list.is_revoked(&user(name), issued, now)));
            assert!(list.of_jti.is_empty() && list.of_user.is_empty());
        }
    }

    #[test]
    fn one_is_in_force_until_its_end() {
        let mut list = RevocationList::default();
        list.add(revocation("1", None, Some("ann"), None));
        list.add(revocation("1", None, Some("ann"), None));
        let end = Timestamp::from_millis(NOW + 1);
        assert_eq!(list.in_force(Timestamp::from_millis(NOW)).count(), 1);
        assert!(!list.is_revoked(&user("ann"), &issued(None, None), end));
        assert_eq!(list.in_force(end).count(), 0);
        list.expire(end);
        assert!(list.all.is_empty() && list.of_user.is_empty());
    }

    #[test]
    fn is_read_as_it_was_written() {
        let full = revocation("1", Some("a"), Some("ann"), Some(1));
        let json = serde_json::to_string(&full).unwrap();
        assert_eq!(serde_json::from_str::<Revocation>(&json).unwrap(), full);
        let little = serde_json::to_value(revocation("1", Some("a"), None, None)).unwrap();
        assert_eq!(little.as_object().unwrap().len(), 4, "{little}");
    }
}
