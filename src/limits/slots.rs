//! Slots: how many connections may be open at a time, given the process's descriptors.
//!
//! A TCP connection costs a descriptor before it sends anything, and no limit on sessions counts it. So the
//! accept loop takes a slot for each, and keeps a reserve of descriptors for everything else (the store,
//! Redis, the logs). When all slots are taken, it closes idle connections to let new ones in, as nginx does
//! with its reusable ones. A connection is idle without a complete request under way and without a WebSocket.
//! The address with the most idle connections loses its oldest first, so that a client that opens hundreds
//! closes its own. A trusted proxy comes last, because its connections stand for many clients.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::timeout};

use super::address::Source;

/// The smallest reserve of descriptors.
const RESERVE: u64 = 64;

/// How long a connection that was told to close may take.
const CLOSING: Duration = Duration::from_secs(1);

/// How often the log warns that there are too many connections.
const WARNING: Duration = Duration::from_mins(1);

/// Raises the process's limit on open descriptors as far as it can, and returns it; `None` if there is no
/// limit.
#[cfg(unix)]
pub fn raise_descriptor_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        // Some systems have a lower bound of their own.
        Err(_) => limit.current,
    }
}

/// There is no limit.
#[cfg(not(unix))]
pub const fn raise_descriptor_limit() -> Option<u64> {
    None
}

/// The slots; clones are handles to the same ones.
#[derive(Debug, Clone)]
pub struct Slots(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    max: usize,
    proxies: Vec<IpNet>,
    open: Mutex<HashMap<u64, Arc<Use>>>,
    next: AtomicU64,
    /// How many connections have become a WebSocket.
    kept: AtomicUsize,
    /// Notified when a slot is free again.
    freed: Notify,
    began: Instant,
    warned: Mutex<Option<Instant>>,
}

/// What a connection does with its slot.
#[derive(Debug)]
pub struct Use {
    id: u64,
    source: Source,
    is_proxy: bool,
    /// A complete request is under way, or the connection is a WebSocket.
    busy: AtomicBool,
    /// Since when it is idle, in milliseconds since the slots were created.
    since: AtomicU64,
    /// It has made a request.
    spoke: AtomicBool,
    close: Notify,
}

/// One connection's slot, free again when dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Slots,
    used: Arc<Use>,
    kept: bool,
}

/// A request, from its head to the end of its answer.
#[derive(Debug)]
pub struct UnderWay {
    slots: Slots,
    used: Arc<Use>,
}

impl Slots {
    /// As many slots as `descriptors` leave room for.
    pub fn new(descriptors: Option<u64>, proxies: Vec<IpNet>) -> Self {
        let max = descriptors.map_or(u64::MAX, |all| all - RESERVE.max(all / 32).min(all / 2));
        Self(Arc::new(Shared {
            max: usize::try_from(max).unwrap_or(usize::MAX).max(1),
            proxies,
            open: Mutex::default(),
            next: AtomicU64::new(0),
            kept: AtomicUsize::new(0),
            freed: Notify::new(),
            began: Instant::now(),
            warned: Mutex::default(),
        }))
    }

    /// Takes a slot for a connection from this address, which may take a moment; `None` if all are taken and
    /// no idle connection makes room.
    pub async fn take(&self, address: IpAddr) -> Option<Slot> {
        if self.is_full() {
            self.warn();
            if !self.close_idle() {
                return None;
            }
            let room = async {
                loop {
                    let freed = self.0.freed.notified();
                    tokio::pin!(freed);
                    freed.as_mut().enable();
                    if !self.is_full() {
                        return;
                    }
                    freed.await;
                }
            };
            timeout(CLOSING, room).await.ok()?;
        }
        let address = address.to_canonical();
        let network = IpNet::from(address);
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let used = Arc::new(Use {
            id,
            source: Source::of(address),
            is_proxy: self.0.proxies.iter().any(|proxies| proxies.contains(&network)),
            busy: AtomicBool::new(false),
            since: AtomicU64::new(self.millis()),
            spoke: AtomicBool::new(false),
            close: Notify::new(),
        });
        self.0.open.lock().insert(id, used.clone());
        Some(Slot { slots: self.clone(), used, kept: false })
    }

    /// Whether so many connections have become a WebSocket that no more should.
    pub fn are_crowded(&self) -> bool {
        let max = self.0.max;
        self.0.kept.load(Ordering::Relaxed) >= (max - max / 8).max(1)
    }

    fn is_full(&self) -> bool {
        self.0.open.lock().len() >= self.0.max
    }

    /// Tells some idle connections to close; false if there are none.
    fn close_idle(&self) -> bool {
        let open = self.0.open.lock();
        let idle = open.values().filter(|used| !used.busy.load(Ordering::Acquire));
        let mut by_source: HashMap<Source, Vec<&Arc<Use>>> = HashMap::new();
        for used in idle {
            by_source.entry(used.source).or_default().push(used);
        }
        let since = |used: &Arc<Use>| (used.since.load(Ordering::Relaxed), used.id);
        let mut ranked = Vec::new();
        for of_source in by_source.values_mut() {
            of_source.sort_unstable_by_key(|used| std::cmp::Reverse(since(used)));
            let newest_first = of_source.iter().enumerate();
            ranked.extend(newest_first.map(|(rank, used)| (used.is_proxy, rank, *used)));
        }
        ranked.sort_unstable_by_key(|(is_proxy, rank, used)| {
            (*is_proxy, std::cmp::Reverse(*rank), since(used))
        });
        // Several at once, so that not every new connection needs a search.
        let some = 1 + self.0.max / 64;
        ranked.iter().take(some).for_each(|(_, _, used)| used.close.notify_one());
        !ranked.is_empty()
    }

    fn warn(&self) {
        let mut warned = self.0.warned.lock();
        if warned.is_none_or(|warned| warned.elapsed() >= WARNING) {
            *warned = Some(Instant::now());
            tracing::warn!(
                connections = self.0.max,
                "there are as many connections as the limit of descriptors allows: idle ones are closed \
                 for new ones; raise the limit (ulimit -n, LimitNOFILE)"
            );
        }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Slot {
    /// The use of the slot.
    pub fn used(&self) -> Arc<Use> {
        self.used.clone()
    }

    /// The connection is a WebSocket from now on.
    pub fn keep(&mut self) {
        self.used.busy.store(true, Ordering::Release);
        self.kept = true;
        self.slots.0.kept.fetch_add(1, Ordering::Relaxed);
    }

    /// Follows the requests of its connection.
    pub fn requests(&self) -> impl Fn() -> UnderWay + Send + Sync + 'static {
        let (slots, used) = (self.slots.clone(), self.used.clone());
        move || {
            used.spoke.store(true, Ordering::Relaxed);
            UnderWay { slots: slots.clone(), used: used.clone() }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let shared = &self.slots.0;
        shared.open.lock().remove(&self.used.id);
        if self.kept {
            shared.kept.fetch_sub(1, Ordering::Relaxed);
        }
        shared.freed.notify_waiters();
    }
}

impl Use {
    /// Completes when the connection must close to make room.
    pub async fn closed(&self) {
        self.close.notified().await;
    }

    /// Whether it has made a request, or is a trusted proxy's.
    pub fn has_spoken(&self) -> bool {
        self.is_proxy || self.spoke.load(Ordering::Relaxed)
    }
}

impl UnderWay {
    /// The request has come completely.
    pub fn is_whole(&self) {
        self.used.busy.store(true, Ordering::Release);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.used.since.store(self.slots.millis(), Ordering::Relaxed);
        self.used.busy.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(max: u64, proxies: &[&str]) -> Slots {
        let proxies = proxies.iter().map(|proxy| proxy.parse().unwrap()).collect();
        // With so few descriptors, half of them are the reserve.
        Slots::new(Some(2 * max), proxies)
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// A connection as the accept loop has it: it closes when it is told to.
    async fn connect(slots: &Slots, last: u8) -> Option<tokio::task::JoinHandle<()>> {
        let slot = slots.take(address(last)).await?;
        Some(tokio::spawn(async move { slot.used().closed().await }))
    }

    #[test]
    fn a_reserve_is_kept() {
        for (descriptors, max) in [(20, 10), (256, 192), (1024, 960), (65_536, 63_488)] {
            assert_eq!(Slots::new(Some(descriptors), Vec::new()).0.max, max);
        }
        assert_eq!(Slots::new(None, Vec::new()).0.max, usize::MAX);
    }

    #[tokio::test]
    async fn who_has_most_idle_connections_gives_its_oldest() {
        let slots = slots(6, &[]);
        let quiet = connect(&slots, 1).await.unwrap();
        let mut many = Vec::new();
        for _ in 0..30 {
            many.push(connect(&slots, 2).await.unwrap());
        }
        connect(&slots, 3).await.unwrap();
        assert!(!quiet.is_finished());
        let open = many.iter().map(|task| !task.is_finished()).collect::<Vec<_>>();
        assert_eq!(open.iter().filter(|open| **open).count(), 4);
        assert!(open[26..].iter().all(|open| *open), "{open:?}");
    }

    #[tokio::test]
    async fn a_proxy_gives_last() {
        let slots = slots(6, &["192.0.2.9/32"]);
        let mut proxy = Vec::new();
        for _ in 0..4 {
            proxy.push(connect(&slots, 9).await.unwrap());
        }
        for last in 1..=20 {
            connect(&slots, last % 8).await.unwrap();
        }
        assert!(proxy.iter().all(|task| !task.is_finished()));
        for _ in 0..20 {
            connect(&slots, 9).await.unwrap();
        }
        assert_eq!(slots.0.open.lock().len(), 6);
    }

    #[tokio::test]
    async fn what_is_of_use_stays() {
        let slots = slots(2, &[]);
        let mut websocket = slots.take(address(1)).await.unwrap();
        websocket.keep();
        let http = slots.take(address(1)).await.unwrap();
        let request = http.requests()();
        request.is_whole();
        assert!(slots.take(address(2)).await.is_none());
        assert!(!slots.are_crowded());
        drop(request);
        let idle = tokio::spawn(async move { http.used().closed().await });
        slots.take(address(2)).await.unwrap().keep();
        idle.await.unwrap();
        drop(websocket);
        assert_eq!(slots.0.open.lock().len(), 0);
        assert_eq!(slots.0.kept.load(Ordering::Relaxed), 0);
    }
}
