//! Namespaces by pattern: `/tenant-*` stands for as many namespaces as clients ask for.
//!
//! Such a namespace is open while somebody [stays](Stay) in it. Nothing of it remains afterwards but what the
//! store keeps, so their number is bounded by that of the connections.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock, Weak},
};

use super::{Namespace, Quota, Registry};
use crate::{protocol::names::MAX_NAME_CHARS, sync::RwLock};

/// The patterns, and the namespaces that are open by them.
pub(super) struct Patterns {
    all: Vec<Pattern>,
    quota: Arc<Quota>,
    open: RwLock<HashMap<Arc<str>, Open>>,
    hooks: OnceLock<Hooks>,
}

#[derive(Debug)]
struct Open {
    namespace: Arc<Namespace>,
    /// How many stay in it.
    stays: usize,
}

/// Is called with a namespace.
type Hook<T> = Box<dyn Fn(&T) + Send + Sync>;

/// What else happens when a namespace opens and closes; called under the lock of all of them.
pub struct Hooks {
    /// It opens.
    pub opens: Hook<Arc<Namespace>>,
    /// It closes.
    pub closes: Hook<str>,
}

impl Patterns {
    pub(super) fn new<'a>(all: impl Iterator<Item = &'a String>, quota: Arc<Quota>) -> Self {
        let all = all.map(|text| Pattern(text.as_str().into())).collect();
        Self { all, quota, open: RwLock::default(), hooks: OnceLock::new() }
    }

    /// The patterns as they were configured.
    pub(super) fn labels(&self) -> impl Iterator<Item = &Arc<str>> {
        self.all.iter().map(|pattern| &pattern.0)
    }

    /// The open namespaces, in no order.
    pub(super) fn open(&self) -> Vec<Arc<Namespace>> {
        self.open.read().values().map(|open| open.namespace.clone()).collect()
    }

    pub(super) fn open_count(&self) -> usize {
        if self.all.is_empty() { 0 } else { self.open.read().len() }
    }

    pub(super) fn find(&self, path: &str) -> Option<Arc<Namespace>> {
        if self.all.is_empty() {
            return None;
        }
        Some(self.open.read().get(path)?.namespace.clone())
    }

    /// A namespace of this path that is not open, if a pattern allows it.
    pub(super) fn make(&self, path: &str) -> Option<Arc<Namespace>> {
        let is_name = path.starts_with('/')
            && path.chars().count() <= MAX_NAME_CHARS
            && !path.chars().any(char::is_control);
        let pattern = self.all.iter().find(|pattern| is_name && pattern.matches(path))?;
        Some(Arc::new(Namespace::new(path, pattern.0.clone(), self.quota.clone())))
    }

    fn close_if_empty(&self, path: &str) {
        let mut open = self.open.write();
        if open.get(path).is_some_and(|open| open.stays == 0) {
            if let Some(hooks) = self.hooks.get() {
                (hooks.closes)(path);
            }
            open.remove(path);
        }
    }
}

impl fmt::Debug for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patterns").field("all", &self.all).finish_non_exhaustive()
    }
}

impl Registry {
    /// Sets what else happens when namespaces open and close, once.
    pub fn follow_namespaces(&self, hooks: Hooks) {
        let _first = self.patterns.hooks.set(hooks);
    }

    /// Enters the namespace of this path, which a pattern may open; `None` if there is none.
    pub fn enter(self: &Arc<Self>, path: &str) -> Option<Stay> {
        if let Some(namespace) = self.fixed(path) {
            return Some(Stay { registry: Weak::new(), namespace: namespace.clone() });
        }
        let patterns = &self.patterns;
        let made = patterns.make(path)?;
        let mut open = patterns.open.write();
        let open = open.entry(made.path.clone()).or_insert_with(|| {
            if let Some(hooks) = patterns.hooks.get() {
                (hooks.opens)(&made);
            }
            Open { namespace: made, stays: 0 }
        });
        open.stays += 1;
        Some(Stay { registry: Arc::downgrade(self), namespace: open.namespace.clone() })
    }
}

/// Keeps a namespace open.
#[derive(Debug)]
pub struct Stay {
    /// Without one, the namespace is always open.
    registry: Weak<Registry>,
    namespace: Arc<Namespace>,
}

impl Stay {
    /// The namespace.
    pub fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let Some(registry) = self.registry.upgrade() else { return };
        let path = self.namespace.path.clone();
        {
            let mut open = registry.patterns.open.write();
            let Some(open) = open.get_mut(&path) else { return };
            open.stays -= 1;
            if open.stays > 0 {
                return;
            }
        }
        // Not here: whoever drops this may be within the library, which the hook calls.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { registry.patterns.close_if_empty(&path) });
        }
    }
}

/// A path in which each `*` stands for one or more characters.
#[derive(Debug)]
struct Pattern(Arc<str>);

impl Pattern {
    fn matches(&self, path: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|first| path.strip_prefix(first)) else {
            return false;
        };
        let mut parts = parts.peekable();
        while let Some(part) = parts.next() {
            let mut characters = rest.chars();
            if characters.next().is_none() {
                return false;
            }
            let behind = characters.as_str();
            if parts.peek().is_none() {
                return behind.ends_with(part);
            }
            // The first place leaves most to those that follow.
            let Some(at) = behind.find(part) else { return false };
            rest = &behind[at + part.len()..];
        }
        rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_stands_for_one_or_more_characters() {
        for (pattern, path, matches) in [
            ("/tenant-*", "/tenant-1", true),
            ("/tenant-*", "/tenant-é/x", true),
            ("/tenant-*", "/tenant-", false),
            ("/tenant-*", "/tenant", false),
            ("/tenant-*", "/tenants-1", false),
            ("/*/chat", "/a/chat", true),
            ("/*/chat", "/a/b/chat", true),
            ("/*/chat", "//chat", false),
            ("/*/chat", "/chat", false),
            ("/*-*", "/a-b", true),
            ("/*-*", "/a--", true),
            ("/*-*", "/-b", false),
            ("/*-*", "/a-", false),
            ("/**", "/ab", true),
            ("/**", "/a", false),
            ("/*", "/", false),
            ("/*a*a", "/xayaza", true),
            ("/*a*a", "/xaa", false),
        ] {
            assert_eq!(Pattern(pattern.into()).matches(path), matches, "{pattern} {path}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_as_its_regular_expression_would(
            pattern in "/[ab*é]{0,6}", path in "/[abé]{0,8}",
        ) {
            // Without one in the tree: by trying all.
            fn slowly(pattern: &[char], path: &[char]) -> bool {
                match (pattern, path) {
                    ([], []) => true,
                    (['*', rest @ ..], [_, path @ ..]) => slowly(rest, path) || slowly(pattern, path),
                    ([one, pattern @ ..], [other, path @ ..]) => one == other && slowly(pattern, path),
                    _ => false,
                }
            }
            let letters = |text: &str| text.chars().collect::<Vec<_>>();
            let wanted = slowly(&letters(&pattern), &letters(&path));
            prop_assert_eq!(Pattern(pattern.as_str().into()).matches(&path), wanted);
        }
    }

    #[tokio::test]
    async fn a_namespace_is_open_while_somebody_stays() {
        let paths = ["/", "/t-*"].map(str::to_owned);
        let registry = Arc::new(Registry::new(&paths, 0));
        let (opened, closed) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let (up, down) = (opened.clone(), closed.clone());
        registry.follow_namespaces(Hooks {
            opens: Box::new(move |_| {
                up.fetch_add(1, Relaxed);
            }),
            closes: Box::new(move |_| {
                down.fetch_add(1, Relaxed);
            }),
        });
        assert!(registry.enter("/u-1").is_none());
        assert!(registry.enter(&format!("/t-{}", "x".repeat(200))).is_none());
        assert!(registry.enter("/t-\u{7}").is_none());
        drop(registry.enter("/").unwrap());
        let (first, second) = (registry.enter("/t-1").unwrap(), registry.enter("/t-1").unwrap());
        assert!(Arc::ptr_eq(&first.namespace, &second.namespace));
        assert_eq!(registry.namespaces().len(), 2);
        drop(first);
        let third = registry.enter("/t-1").unwrap();
        drop((second, third));
        // It is entered again before it is closed.
        let fourth = registry.enter("/t-1").unwrap();
        tokio::task::yield_now().await;
        assert!(registry.namespace("/t-1").is_some());
        drop(fourth);
        while registry.namespace("/t-1").is_some() {
            tokio::task::yield_now().await;
        }
        assert_eq!((opened.load(Relaxed), closed.load(Relaxed)), (1, 1));
        assert_eq!(&*registry.address("/t-1").unwrap().path, "/t-1");
        assert_eq!(registry.namespaces().len(), 1);
    }
}
