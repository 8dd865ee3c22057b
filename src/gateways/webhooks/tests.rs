//! The delivery, to an endpoint of the test's and by a clock that runs as fast as the test.

use std::{
    pin::Pin,
    sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{endpoint::Outcome, *};
use crate::{
    config::StoreUrl,
    protocol::{
        audience::Except,
        names::{RoomName, UserId},
    },
    store::{Announcement, Append, Entry, FailedPlace, Fate, RoomKey, Settings, Webhook},
};

/// A try: when it came, and which webhook it was.
type Try = (Duration, String);

type Answer = Box<dyn FnMut(&str) -> Outcome + Send>;

/// An endpoint that answers as the test says.
struct Fake {
    begun: Instant,
    tries: mpsc::UnboundedSender<Try>,
    answer: Mutex<Answer>,
}

impl Post for Fake {
    fn post<'a>(
        &'a self,
        id: &'a str,
        _now: i64,
        _body: String,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        Box::pin(async move {
            let _over = self.tries.send((self.begun.elapsed(), id.to_owned()));
            (self.answer.lock())(id)
        })
    }
}

struct World {
    store: Store,
    tries: mpsc::UnboundedReceiver<Try>,
    deliverer: Deliverer,
}

fn store() -> Store {
    let config = Config { store_url: StoreUrl::Memory, ..Config::default() };
    Store::open(Settings::of(&config), |_| {}, |_| false).unwrap()
}

fn world(store: Store, answer: impl FnMut(&str) -> Outcome + Send + 'static) -> World {
    let (begun, (sender, tries)) = (Instant::now(), mpsc::unbounded_channel());
    let fake = Fake { begun, tries: sender, answer: Mutex::new(Box::new(answer)) };
    // What the tests store has happened at 0.
    let clock = Clock::from_fn(move || i64::try_from(begun.elapsed().as_millis()).unwrap());
    let deliverer = Deliverer::to(Arc::new(fake), store.clone(), None, clock, Arc::default());
    World { store, tries, deliverer }
}

fn tell(store: &Store, stream: &str, id: &str) {
    let stream = Stream::of_user(&UserId::parse(stream).unwrap());
    let webhook = Webhook { id: id.to_owned(), stream, at_ms: 0, json: "{}".to_owned() };
    store.announce(Announcement { webhook: Some(webhook), fact: None, sender: None, room: None });
}

fn failed(retry_after: Option<u64>) -> Outcome {
    let retry_after = retry_after.map(Duration::from_secs);
    Outcome::Failed { reason: "status", why: "an answer of the test".to_owned(), retry_after }
}

impl World {
    async fn next(&mut self) -> Try {
        self.tries.recv().await.unwrap()
    }

    async fn next_id(&mut self) -> String {
        self.next().await.1
    }

    /// Stores one more webhook, while the clock stands still; then so many wait.
    async fn told(&self, stream: &str, id: &str, waiting: u64) {
        tell(&self.store, stream, id);
        // Whoever yields keeps the clock from jumping.
        while self.store.stats().webhooks < waiting {
            tokio::task::yield_now().await;
        }
    }

    async fn emptied(&self) {
        while self.store.stats().webhooks > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_fails_is_tried_for_three_days_and_delays_its_own_stream_only() {
    let poisoned = |id: &str| if id == "a1" { failed(None) } else { Outcome::Delivered };
    let mut world = world(store(), poisoned);
    tell(&world.store, "a", "a1");
    tell(&world.store, "a", "a2");
    let first = world.next().await;
    assert_eq!(first.1, "a1");
    world.told("b", "b1", 3).await;
    let (mut tries, mut others) = (vec![first.0], Vec::new());
    loop {
        let (at, id) = world.next().await;
        match &*id {
            "a1" => tries.push(at),
            "a2" => break,
            _ => others.push(at),
        }
    }
    assert_eq!(others.len(), 1);
    assert!(others[0] < tries[1], "it has waited for another stream's: {others:?}");
    let gaps = tries
        .windows(2)
        .map(|pair| pair[1].as_secs_f64() - pair[0].as_secs_f64())
        .collect::<Vec<_>>();
    let delays = [5.0, 30.0, 120.0, 600.0, 3_600.0];
    for (at, gap) in gaps.iter().enumerate() {
        let delay = delays.get(at).copied().unwrap_or(21_600.0);
        assert!((delay..delay * 1.25 + 1.0).contains(gap), "{at}: {gap} s");
    }
    let three_days = Duration::from_hours(72);
    assert!(tries.iter().rev().nth(1).unwrap() < &three_days);
    assert!(tries.last().unwrap() >= &three_days, "given up too early");
    world.emptied().await;
    assert_eq!((world.store.stats().webhooks_failed, world.store.stats().webhooks_dropped), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_endpoint_says_when_it_wants_it_again() {
    let mut answers = vec![Outcome::Delivered, failed(Some(100)), failed(Some(7))];
    let mut world = world(store(), move |_| answers.pop().unwrap());
    tell(&world.store, "a", "1");
    let times = [world.next().await.0, world.next().await.0, world.next().await.0];
    let times = times.map(|time| time.as_secs_f64());
    let gaps = [times[1] - times[0], times[2] - times[1]];
    assert!((7.0..9.5).contains(&gaps[0]) && (100.0..121.0).contains(&gaps[1]), "{gaps:?}");
    world.emptied().await;
}

#[tokio::test(start_paused = true)]
async fn the_webhooks_of_a_stream_come_in_order_whatever_fails() {
    let mut fails = HashMap::from([("20".to_owned(), 2), ("33".to_owned(), 1)]);
    let mut world = world(store(), move |id| match fails.get_mut(id) {
        Some(left) if *left > 0 => {
            *left -= 1;
            failed(None)
        }
        _ => Outcome::Delivered,
    });
    for id in 1..=50 {
        tell(&world.store, "a", &id.to_string());
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&50) {
        seen.push(world.next_id().await.parse::<u32>().unwrap());
    }
    let mut wanted = (1..=50).collect::<Vec<_>>();
    wanted.extend([20, 20, 33]);
    wanted.sort_unstable();
    assert_eq!(seen, wanted);
    world.emptied().await;
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_gone_gets_nothing_until_a_restart() {
    let store = store();
    let mut world =
        world(store.clone(), |id| if id == "1" { Outcome::Gone } else { Outcome::Delivered });
    tell(&store, "a", "1");
    assert_eq!(world.next_id().await, "1");
    world.told("b", "2", 2).await;
    // Longer than any delay, of the clock that jumps.
    tokio::time::sleep(Duration::from_hours(7)).await;
    assert!(world.tries.try_recv().is_err());
    assert_eq!(store.stats().webhooks, 2);
    world.deliverer.stop().await;

    let mut world = self::world(store, |_| Outcome::Delivered);
    let mut ids = [world.next_id().await, world.next_id().await];
    ids.sort_unstable();
    assert_eq!(ids, ["1", "2"]);
    world.emptied().await;
}

/// What was posted: when, in milliseconds, the webhook's id, and its body.
type Posted = (i64, String, String);

/// An endpoint that fails until it is fixed.
struct Failing {
    posted: mpsc::UnboundedSender<Posted>,
    is_fixed: Arc<AtomicBool>,
}

impl Post for Failing {
    fn post<'a>(
        &'a self,
        id: &'a str,
        now: i64,
        body: String,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        let _over = self.posted.send((now, id.to_owned(), body));
        let outcome = if self.is_fixed.load(SeqCst) { Outcome::Delivered } else { failed(None) };
        Box::pin(std::future::ready(outcome))
    }
}

/// The tries follow the schedule, which begins with the first of them.
fn assert_on_schedule(tries: &[Posted]) {
    let delays = [5.0, 30.0, 120.0, 600.0, 3_600.0];
    for (at, pair) in tries.windows(2).enumerate() {
        let gap = Duration::from_millis(u64::try_from(pair[1].0 - pair[0].0).unwrap());
        let delay = delays.get(at).copied().unwrap_or(21_600.0);
        assert!((delay..delay * 1.25 + 1.0).contains(&gap.as_secs_f64()), "{at}: {gap:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_is_tried_for_three_days_whatever_restarts_and_again_by_hand() {
    const HOUR: i64 = 3_600_000;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("roomcast.db");
    let begun = Instant::now();
    // The store's threads do not see the clock of the test, and are told.
    let told = Arc::new(AtomicI64::new(0));
    let clock = Clock::from_fn(move || i64::try_from(begun.elapsed().as_millis()).unwrap());
    let (posted, mut tries) = mpsc::unbounded_channel();
    let is_fixed = Arc::<AtomicBool>::default();
    let endpoint = Arc::new(Failing { posted, is_fixed: is_fixed.clone() });
    let open = || {
        let config = Config { store_url: StoreUrl::Sqlite(path.clone()), ..Config::default() };
        let told = told.clone();
        let clock = Clock::from_fn(move || told.load(SeqCst));
        Store::open(Settings { clock, ..Settings::of(&config) }, |_| {}, |_| false).unwrap()
    };
    let deliver = |store: &Store| {
        Deliverer::to(endpoint.clone(), store.clone(), None, clock.clone(), Arc::default())
    };

    let store = open();
    let room = RoomKey { namespace: "/".into(), room: RoomName::parse("r").unwrap() };
    let json = r#"{"type":"message.created","data":{"room":"r""#.to_owned();
    let stream = Stream::of_room(&room);
    let webhook = Webhook { id: "msg_1".to_owned(), stream, at_ms: 0, json };
    let entry = Entry {
        id: "m".to_owned(),
        event: "e".to_owned(),
        json: r#"{"text":"x"}"#.into(),
        attachments: Vec::new(),
        timestamp_ms: 0,
    };
    let append =
        Append { room, entry, except: Except::nobody(), sender: None, webhook: Some(webhook) };
    let position = store.append(append).await.unwrap();
    let deliverer = deliver(&store);
    let mut before = Vec::<Posted>::new();
    while before.last().is_none_or(|(at, ..)| *at < 20 * HOUR) {
        before.push(tries.recv().await.unwrap());
    }
    assert_on_schedule(&before);
    deliverer.stop().await;
    store.close().await;
    drop(store);

    // It is tried at once, and the schedule begins anew; the three days do not.
    let store = open();
    let restarted = clock.now_ms();
    let deliverer = deliver(&store);
    let mut after = vec![tries.recv().await.unwrap()];
    assert!(after[0].0 - restarted < 1_000, "{restarted} {:?}", after[0]);
    while store.failed_webhook_count().await.unwrap() == 0 {
        if let Ok(Some(tried)) = tokio::time::timeout(Duration::from_hours(8), tries.recv()).await {
            after.push(tried);
        }
    }
    assert_on_schedule(&after);
    let at = |nth: usize| after.iter().rev().nth(nth).unwrap().0;
    assert!(at(1) < 72 * HOUR && at(0) >= 72 * HOUR, "{} {}", at(1), at(0));
    let body = format!(
        r#"{{"type":"message.created","data":{{"room":"r","offset":1,"epoch":"{}","data":{{"text":"x","offset":1}}}}}}"#,
        position.epoch
    );
    for (_, id, found) in before.iter().chain(&after) {
        assert_eq!((id.as_str(), found), ("msg_1", &body));
    }

    is_fixed.store(true, SeqCst);
    told.store(clock.now_ms(), SeqCst);
    let failed = store.failed_webhook_ids(FailedPlace::default(), 10).await.unwrap();
    assert_eq!(store.decide_webhooks(failed, Fate::Retried).await, Ok(1));
    let (_, id, found) = tries.recv().await.unwrap();
    assert_eq!((id.as_str(), found), ("msg_1", body));
    while store.stats().webhooks > 0 {
        tokio::task::yield_now().await;
    }
    deliverer.stop().await;
    assert!(tries.try_recv().is_err());
}
