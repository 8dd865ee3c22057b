//! Pages of lists, merged from the parts of all nodes.

use std::collections::{BTreeMap, HashSet};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Coverage;
use crate::broker::{cluster::Answers, survey::PageRequest};

/// A part of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The items, in a stable order.
    pub items: Vec<T>,
    /// The number of items of all pages.
    pub total: usize,
    /// The `cursor` of the next page; `null` on the last one.
    #[schema(required)]
    pub next_cursor: Option<String>,
    /// Whether all nodes are in it.
    #[serde(flatten)]
    pub coverage: Coverage,
}

/// One node's part of a page.
#[derive(Debug, Serialize, Deserialize)]
pub struct Part<T> {
    /// The items after the request's key, up to the page's limit, each with its key.
    items: Vec<(String, T)>,
    /// Whether there are more.
    more: bool,
    /// The hashes of all keys of the list: an item that is on several nodes counts once.
    keys: Vec<u64>,
}

/// The cursor that stands for a key.
pub fn encode_cursor(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

/// The key that a cursor stands for.
pub fn decode_cursor(cursor: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()
}

/// FNV-1a: the same on every node and in every build.
pub(super) fn hash(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl<T> Part<T> {
    /// The items after the request's key, in the order of their keys. A cursor is a key, not a number: items
    /// that come and go meanwhile hide none that stays.
    pub(in crate::commands) fn of<S>(
        all: Vec<(String, S)>,
        request: &PageRequest,
        show: impl Fn(S) -> T,
    ) -> Self {
        let keys = all.iter().map(|(key, _)| hash(key)).collect();
        let after = |key: &String| request.after.as_ref().is_none_or(|after| key > after);
        let mut rest = all.into_iter().filter(|(key, _)| after(key)).collect::<Vec<_>>();
        rest.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let more = rest.len() > request.limit;
        rest.truncate(request.limit);
        let items = rest.into_iter().map(|(key, item)| (key, show(item))).collect();
        Self { items, more, keys }
    }
}

impl<T> Page<T> {
    /// The page made of this node's part and the others'. `join` merges an item of several parts into the
    /// first.
    pub(in crate::commands) fn of(
        here: Part<T>,
        elsewhere: Answers<Part<T>>,
        request: &PageRequest,
        join: impl Fn(&mut T, T),
    ) -> Self {
        let coverage = Coverage::of(&elsewhere);
        let mut more = false;
        let mut keys = HashSet::new();
        let mut merged = BTreeMap::<String, T>::new();
        for part in std::iter::once(here).chain(elsewhere.answers) {
            more |= part.more;
            keys.extend(part.keys);
            for (key, item) in part.items {
                match merged.get_mut(&key) {
                    Some(known) => join(known, item),
                    None => {
                        merged.insert(key, item);
                    }
                }
            }
        }
        more |= merged.len() > request.limit;
        let last = merged.keys().take(request.limit).last().filter(|_| more);
        let next_cursor = last.map(|key| encode_cursor(key));
        let items = merged.into_values().take(request.limit).collect();
        Self { items, total: keys.len(), next_cursor, coverage }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pages_put_together_are_the_list_in_order_on_however_many_nodes(
            nodes in proptest::collection::vec(proptest::collection::btree_set("\\PC{1,5}", 0..30), 1..4),
            limit in 1_usize..12,
        ) {
            let all = nodes.iter().flatten().cloned().collect::<BTreeSet<_>>();
            let part = |keys: &BTreeSet<String>, request: &PageRequest| {
                let list = keys.iter().rev().map(|key| (key.clone(), (key.clone(), 1))).collect();
                Part::of(list, request, |item| item)
            };
            let mut request = PageRequest { limit, after: None };
            let mut seen = Vec::new();
            loop {
                let answers = nodes[1..].iter().map(|keys| part(keys, &request)).collect();
                let elsewhere = Answers { answers, ..Answers::none() };
                let here = part(&nodes[0], &request);
                let page = Page::of(here, elsewhere, &request, |known, more| known.1 += more.1);
                prop_assert!(page.items.len() <= limit);
                prop_assert_eq!(page.total, all.len());
                seen.extend(page.items);
                let Some(cursor) = page.next_cursor else { break };
                request.after = Some(decode_cursor(&cursor).unwrap());
            }
            prop_assert_eq!(seen.iter().map(|(key, _)| key).collect::<Vec<_>>(), all.iter().collect::<Vec<_>>());
            for (key, count) in seen {
                prop_assert_eq!(count, nodes.iter().filter(|keys| keys.contains(&key)).count());
            }
        }
    }
}
