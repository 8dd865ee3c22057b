//! Flow control follows the typical reader.
//!
//! Publishers wait while an audience (a room, a namespace, the clients of a list) is *backpressured*: more
//! than half of the readers of its last delivery are *behind*. A reader is behind if it has much unsent and
//! took something a moment ago. One slow reader among many delays nobody: it has its own bounds, and is cut
//! off beyond them. A client that takes nothing does not count as a reader, so nobody waits for it.
//!
//! A delivery counts the readers that it reaches. A connection that is behind registers with it, and reports
//! when it has caught up, has stopped reading, or has ended. A later delivery to the same audience begins a
//! new count.

use std::{
    ops::Add,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::sync::{
    Mutex, Notify,
    atomic::{AtomicBool, Ordering},
};

/// How long the counts of other nodes stay valid.
const FRESH: Duration = Duration::from_millis(250);

/// The readers of one audience.
#[derive(Debug, Default)]
pub struct Readers {
    count: Mutex<Count>,
    /// Whether most are behind; changed under the count's lock.
    backpressured: AtomicBool,
    /// Notified of every change while not backpressured.
    drained: Notify,
    /// The counts of other nodes, and when they were asked for.
    elsewhere: OnceLock<Box<Elsewhere>>,
}

/// The last counts, and when they were asked for.
type Elsewhere = tokio::sync::Mutex<Option<(Instant, Counts)>>;

/// How many clients read what is sent to an audience.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All readers.
    pub readers: usize,
    /// The readers that are behind.
    pub behind: usize,
}

impl Counts {
    /// Whether more than half are behind.
    pub const fn are_backpressured(self) -> bool {
        self.behind * 2 > self.readers
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { readers: self.readers + other.readers, behind: self.behind + other.behind }
    }
}

/// The count of the last delivery.
#[derive(Debug, Default)]
struct Count {
    delivery: u64,
    /// The delivery has not reached everyone yet.
    under_way: bool,
    readers: usize,
    behind: usize,
    /// Readers that have stopped reading, left or ended.
    lost: usize,
}

impl Readers {
    /// Begins a delivery; there is one at a time.
    pub fn begin(self: &Arc<Self>) -> Delivery<'_> {
        let mut count = self.count.lock();
        *count = Count { delivery: count.delivery + 1, under_way: true, ..Count::default() };
        Delivery { readers: self, number: count.delivery, reached: 0 }
    }

    /// Whether more than half of the last delivery's readers are behind.
    pub fn is_backpressured(&self) -> bool {
        self.backpressured.load(Ordering::Acquire)
    }

    /// Waits until at most half of the last delivery's readers are behind.
    pub async fn wait_drained(&self) {
        self.wait_until(|readers| !readers.is_backpressured()).await;
    }

    /// Waits until `is` returns true. It must stay false while the audience is backpressured, because waiters
    /// are not notified then.
    pub async fn wait_until(&self, is: impl Fn(&Self) -> bool) {
        while !is(self) {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            // From here on no notification is missed.
            drained.as_mut().enable();
            if !is(self) {
                drained.await;
            }
        }
    }

    /// The counts of the last delivery at this moment.
    pub fn counts(&self) -> Counts {
        let count = self.count.lock();
        let readers = count.readers.saturating_sub(count.lost);
        Counts { readers, behind: count.behind }
    }

    /// The counts of this audience's readers on other nodes: those of a moment ago, else those that `ask`
    /// gets. Concurrent callers ask once.
    pub async fn elsewhere(&self, ask: impl Future<Output = Counts>) -> Counts {
        let mut known = self.elsewhere.get_or_init(Box::default).lock().await;
        if let Some((at, counts)) = *known
            && at.elapsed() < FRESH
        {
            return counts;
        }
        // A caller that times out before the answer has asked all the same.
        *known = Some((Instant::now(), Counts::default()));
        let counts = ask.await;
        *known = Some((Instant::now(), counts));
        counts
    }

    fn change(&self, delivery: u64, change: impl FnOnce(&mut Count)) {
        let mut count = self.count.lock();
        if count.delivery == delivery {
            change(&mut count);
            self.judge(&count);
        }
    }

    fn judge(&self, count: &Count) {
        // While a delivery is under way, the state of the last one holds.
        if count.under_way {
            return;
        }
        let readers = count.readers.saturating_sub(count.lost);
        let is = Counts { readers, behind: count.behind }.are_backpressured();
        self.backpressured.store(is, Ordering::Release);
        if !is {
            self.drained.notify_waiters();
        }
    }
}

/// A packet on its way to an audience.
#[derive(Debug)]
pub struct Delivery<'a> {
    readers: &'a Arc<Readers>,
    number: u64,
    reached: usize,
}

impl Delivery<'_> {
    /// Counts a recipient that reads.
    pub fn reached(&mut self) {
        self.reached += 1;
    }
}

impl Drop for Delivery<'_> {
    /// The delivery has reached everyone.
    fn drop(&mut self) {
        let readers = self.reached;
        self.readers.change(self.number, |count| {
            count.readers = readers;
            count.under_way = false;
        });
    }
}

/// The deliveries, each to a different audience, in which a connection is behind.
#[derive(Debug, Default)]
pub(super) struct Behind(Vec<(Arc<Readers>, u64)>);

impl Behind {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The connection is behind when it gets this delivery.
    pub(super) fn register(&mut self, delivery: &Delivery<'_>) {
        let Delivery { readers, number, .. } = delivery;
        match self.0.iter_mut().find(|(known, _)| Arc::ptr_eq(known, readers)) {
            // Another client of the same connection was counted already.
            Some((_, known)) if *known == *number => return,
            Some((_, known)) => *known = *number,
            None => self.0.push((Arc::clone(readers), *number)),
        }
        readers.change(*number, |count| count.behind += 1);
    }

    /// The connection has caught up.
    pub(super) fn caught_up(&mut self) {
        for (readers, delivery) in std::mem::take(&mut self.0) {
            readers.change(delivery, |count| count.behind -= 1);
        }
    }

    /// The connection has stopped reading, or has ended.
    pub(super) fn ceased(&mut self) {
        for (readers, delivery) in std::mem::take(&mut self.0) {
            lose(&readers, delivery);
        }
    }

    /// The connection's client has left this audience.
    pub(super) fn leave(&mut self, left: &Arc<Readers>) {
        let at = self.0.iter().position(|(readers, _)| Arc::ptr_eq(readers, left));
        if let Some((readers, delivery)) = at.map(|at| self.0.swap_remove(at)) {
            lose(&readers, delivery);
        }
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.ceased();
    }
}

fn lose(readers: &Readers, delivery: u64) {
    readers.change(delivery, |count| {
        count.behind -= 1;
        count.lost += 1;
    });
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, task::Poll};

    use futures_util::poll;
    use proptest::prelude::*;

    use super::*;

    /// Delivers to `all` connections, of which the first are behind.
    fn deliver(readers: &Arc<Readers>, all: usize, behind: &mut [Behind]) {
        let mut delivery = readers.begin();
        for behind in behind {
            behind.register(&delivery);
        }
        for _ in 0..all {
            delivery.reached();
        }
    }

    fn connections(count: usize) -> Vec<Behind> {
        std::iter::repeat_with(Behind::default).take(count).collect()
    }

    #[test]
    fn more_than_half_must_be_behind() {
        for (all, behind, is) in [
            (0, 0, false),
            (1, 1, true),
            (2, 1, false),
            (3, 2, true),
            (1000, 1, false),
            (1000, 300, false),
            (1000, 500, false),
            (1000, 600, true),
        ] {
            let readers = Arc::<Readers>::default();
            let mut slow = connections(behind);
            deliver(&readers, all, &mut slow);
            assert_eq!(readers.is_backpressured(), is, "{behind} of {all}");
        }
    }

    #[tokio::test]
    async fn whoever_waits_goes_on_as_soon_as_half_have_caught_up() {
        let readers = Arc::<Readers>::default();
        let mut slow = connections(6);
        deliver(&readers, 10, &mut slow);
        let mut wait = pin!(readers.wait_drained());
        assert_eq!(poll!(wait.as_mut()), Poll::Pending);
        slow[3].caught_up();
        assert_eq!(poll!(wait.as_mut()), Poll::Ready(()));
        assert!(!readers.is_backpressured());
    }

    #[tokio::test]
    async fn nobody_waits_for_those_who_have_ceased_to_read_or_left() {
        let readers = Arc::<Readers>::default();
        for end in [Behind::ceased, |behind: &mut Behind| behind.caught_up()] {
            let mut slow = connections(3);
            deliver(&readers, 3, &mut slow);
            let mut wait = pin!(readers.wait_drained());
            assert_eq!(poll!(wait.as_mut()), Poll::Pending);
            slow.iter_mut().for_each(end);
            assert_eq!(poll!(wait.as_mut()), Poll::Ready(()));
        }
        let mut slow = connections(1);
        deliver(&readers, 2, &mut slow);
        deliver(&readers, 1, &mut slow);
        assert!(readers.is_backpressured());
        let others = Arc::<Readers>::default();
        slow[0].leave(&others);
        assert!(readers.is_backpressured());
        slow[0].leave(&readers);
        assert!(!readers.is_backpressured());
        assert!(slow[0].is_empty());
    }

    #[test]
    fn what_was_behind_in_an_earlier_delivery_does_not_count_in_the_next() {
        let readers = Arc::<Readers>::default();
        let mut slow = connections(2);
        deliver(&readers, 2, &mut slow);
        // They are left out this time.
        deliver(&readers, 1, &mut []);
        assert!(!readers.is_backpressured());
        slow[0].caught_up();
        slow[1].ceased();
        deliver(&readers, 1, &mut slow[..1]);
        assert!(readers.is_backpressured());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Deliver { behind: Vec<bool> },
        CaughtUp(usize),
        Ceased(usize),
        Leave(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            proptest::collection::vec(any::<bool>(), 0..6)
                .prop_map(|behind| Step::Deliver { behind }),
            (0_usize..6).prop_map(Step::CaughtUp),
            (0_usize..6).prop_map(Step::Ceased),
            (0_usize..6).prop_map(Step::Leave),
        ]
    }

    proptest! {
        #[test]
        fn the_count_is_that_of_the_last_delivery(
            steps in proptest::collection::vec(step(), 1..40),
        ) {
            let readers = Arc::<Readers>::default();
            let mut connections = connections(6);
            // For each connection that reads the last delivery: whether it is behind.
            let mut model = [None::<bool>; 6];
            for step in steps {
                match step {
                    Step::Deliver { behind } => {
                        model = [None; 6];
                        let mut delivery = readers.begin();
                        for (at, behind) in behind.into_iter().enumerate() {
                            if behind {
                                connections[at].register(&delivery);
                            } else {
                                // It reports before it gets more.
                                connections[at].caught_up();
                            }
                            delivery.reached();
                            model[at] = Some(behind);
                        }
                    }
                    Step::CaughtUp(at) => {
                        connections[at].caught_up();
                        model[at] = model[at].map(|_| false);
                    }
                    Step::Ceased(at) | Step::Leave(at) => {
                        if let Step::Ceased(_) = step {
                            connections[at].ceased();
                        } else {
                            connections[at].leave(&readers);
                        }
                        if model[at] == Some(true) {
                            model[at] = None;
                        }
                    }
                }
                let all = model.iter().flatten().count();
                let behind = model.iter().filter(|behind| **behind == Some(true)).count();
                prop_assert_eq!(readers.is_backpressured(), behind * 2 > all);
            }
        }
    }
}
