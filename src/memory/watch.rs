//! Keeps the process below its limit.

use std::{
    cmp::Reverse,
    io,
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use super::{Level, Memory, Shared, Slow, system};

/// How often the memory is checked, by a thread of its own because the runtime's may all be busy.
const EVERY: Duration = Duration::from_millis(100);

/// How often from [`CLOSE`] on: the limit may be reached within a moment.
const OFTEN: Duration = Duration::from_millis(20);

/// From this part of the limit on, in percent, memory is checked more often.
const CLOSE: u64 = 60;

/// From this part of the limit on, in percent, the process is near it.
const NEAR: u64 = 90;

/// Below this part, in percent, it is no longer near.
const CALM: u64 = 80;

/// Below this part, in percent, the accounts hold next to nothing.
const LITTLE: u64 = 5;

/// Connections that hold less are not cut off: it would not help.
const SMALL: usize = 64 * 1024;

/// How long the memory of cut-off connections may take to be freed.
const SETTLE: Duration = Duration::from_millis(500);

/// How long after one look for memory that can be given back the next one comes, and near the limit.
const GIVE_BACK: Duration = Duration::from_secs(10);
const GIVE_BACK_NEAR: Duration = Duration::from_secs(1);

/// The allocator is asked to give memory back once the process has so much more than is held for connections
/// than it has had at the least, and once more if that has grown by as much again.
const KEPT: u64 = 32_000_000;

/// It is asked once more, too, if the process has become smaller by so much since: then other work is over, and
/// what it had used lies between what is still needed.
const SMALLER: u64 = 16_000_000;

/// Watches over the process's memory until the last handle to `memory` is gone. If the system does not tell
/// what the process uses, the sum of the accounts is used.
///
/// # Errors
/// If the thread cannot be started.
pub fn watch(memory: &Memory) -> io::Result<()> {
    if memory.limits().process == 0 {
        return Ok(());
    }
    let memory: Weak<Shared> = Arc::downgrade(&memory.0);
    thread::Builder::new().name("memory".into()).spawn(move || {
        let mut watch = Watch::default();
        while let Some(memory) = memory.upgrade().map(Memory) {
            let used = system::used().unwrap_or_else(|| memory.totals().all as u64);
            let now = Instant::now();
            if watch.keeps_too_much(&memory, used, now) && roomcast_heap::give_back() {
                tracing::debug!(
                    before = used,
                    after = system::used(),
                    "free memory was given back"
                );
            }
            watch.look(&memory, used, now);
            let is_close = used >= part(memory.limits().process, CLOSE);
            drop(memory);
            thread::sleep(if is_close { OFTEN } else { EVERY });
        }
    })?;
    Ok(())
}

/// The state between two checks.
#[derive(Debug, Default)]
struct Watch {
    /// When connections were cut off last, and how much was in use then.
    last: Option<(Instant, u64)>,
    /// When memory that can be given back was looked for last.
    looked: Option<Instant>,
    /// The least that the process has had beyond what was held for connections.
    least: Option<u64>,
    /// What the process had when the allocator was asked last, and the part of it beyond what was held.
    asked: Option<(u64, u64)>,
}

impl Watch {
    /// Whether the allocator is likely to keep much that nobody needs any more.
    fn keeps_too_much(&mut self, memory: &Memory, used: u64, now: Instant) -> bool {
        let pause = if memory.level() > Level::Calm { GIVE_BACK_NEAR } else { GIVE_BACK };
        if self.looked.is_some_and(|looked| now.duration_since(looked) < pause) {
            return false;
        }
        self.looked = Some(now);
        let kept = used.saturating_sub(memory.totals().all as u64);
        let least = self.least.map_or(kept, |least| least.min(kept));
        self.least = Some(least);
        let has_changed = self.asked.is_none_or(|(used_then, kept_then)| {
            kept >= kept_then + KEPT || used + SMALLER <= used_then
        });
        let is_due = kept >= least + KEPT && has_changed;
        if is_due {
            self.asked = Some((used, kept));
        }
        is_due
    }

    fn look(&mut self, memory: &Memory, used: u64, now: Instant) {
        let limit = memory.limits().process;
        let before = memory.level();
        // Asked for only where it decides: the sum goes over all accounts.
        let held = if before > Level::Calm { memory.totals().all as u64 } else { 0 };
        let level = level(before, used, held, limit);
        memory.set_level(level);
        if level > Level::Calm && before == Level::Calm {
            tracing::warn!(
                used,
                limit,
                "near the memory limit: new connections are refused, and the largest ones are disconnected"
            );
        } else if level == Level::Calm && before > Level::Calm {
            tracing::info!(used, limit, "no longer near the memory limit");
        }
        // The memory of connections cut off before has a moment to be freed, unless usage still rises.
        let settles =
            self.last.is_some_and(|(when, then)| used <= then && now.duration_since(when) < SETTLE);
        if level == Level::Calm || settles {
            return;
        }
        if cut_off_largest(memory, used.saturating_sub(part(limit, CALM))) > 0 {
            self.last = Some((now, used));
        }
    }
}

/// Cuts off the connections that hold most, until they add up to `excess` bytes; returns how many.
fn cut_off_largest(memory: &Memory, excess: u64) -> usize {
    let mut accounts = memory.accounts();
    accounts.retain(|account| account.cut_off().is_none());
    let mut accounts =
        accounts.iter().map(|account| (account.total(), account)).collect::<Vec<_>>();
    accounts.retain(|(held, _)| *held >= SMALL);
    accounts.sort_by_key(|(held, _)| Reverse(*held));
    let (mut cut_off, mut freed) = (0, 0);
    for (held, account) in accounts {
        if freed >= excess {
            break;
        }
        if account.break_off(Slow::Memory) {
            tracing::warn!(
                held,
                "memory is short: disconnecting the connection that holds the most"
            );
            freed += held as u64;
            cut_off += 1;
        }
    }
    cut_off
}

/// `held` is what all accounts hold. Once that is little, waiting frees no more: what the allocator keeps serves
/// the next connections.
fn level(before: Level, used: u64, held: u64, limit: u64) -> Level {
    if used >= limit {
        Level::Over
    } else if used >= part(limit, NEAR) {
        Level::Near
    } else if used < part(limit, CALM) || held < part(limit, LITTLE) {
        Level::Calm
    } else {
        before.min(Level::Near)
    }
}

fn part(limit: u64, percent: u64) -> u64 {
    limit / 100 * percent
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::memory::{Account, Limits, Transport};

    /// A connection whose transport holds a fixed number of bytes.
    struct Holder {
        account: Arc<Account>,
        transport: Arc<dyn Transport>,
        ended: Arc<AtomicBool>,
    }

    struct Fake(usize, Arc<AtomicBool>);

    impl Transport for Fake {
        fn held(&self) -> usize {
            self.0
        }

        fn break_off(&self) {
            self.1.store(true, Ordering::Relaxed);
        }
    }

    impl Holder {
        fn of(memory: &Memory, held: usize) -> Self {
            let (account, ended) = (memory.open_account(), Arc::<AtomicBool>::default());
            let transport: Arc<dyn Transport> = Arc::new(Fake(held, ended.clone()));
            account.attach(Arc::downgrade(&transport));
            Self { account, transport, ended }
        }
    }

    fn ended(holders: &[Holder]) -> Vec<bool> {
        holders.iter().map(|holder| holder.ended.load(Ordering::Relaxed)).collect()
    }

    const MB: u64 = 1_000_000;

    #[test]
    fn the_level_keeps_until_there_is_room_again() {
        let mut level = Level::Calm;
        for (used, wanted) in [
            (85, Level::Calm),
            (90, Level::Near),
            (85, Level::Near),
            (100, Level::Over),
            (99, Level::Near),
            (80, Level::Near),
            (79, Level::Calm),
            (85, Level::Calm),
        ] {
            level = super::level(level, used * MB, 50 * MB, 100 * MB);
            assert_eq!(level, wanted, "at {used} MB");
        }
    }

    #[test]
    fn what_the_allocator_keeps_holds_nobody_up_where_nothing_is_held() {
        let level = |before, used, held| super::level(before, used * MB, held * MB, 100 * MB);
        assert_eq!(level(Level::Near, 85, 5), Level::Near);
        assert_eq!(level(Level::Near, 85, 4), Level::Calm);
        assert_eq!(level(Level::Near, 90, 0), Level::Near);
        assert_eq!(level(Level::Over, 100, 0), Level::Over);
    }

    #[test]
    fn memory_is_given_back_once_it_is_no_longer_held_for_anybody() {
        let memory = Memory::new(Limits { outgoing: 0, incoming: 0, process: 1000 * MB });
        let (mut watch, mut now) = (Watch::default(), Instant::now());
        let mut looks = |used: u64| {
            now += GIVE_BACK;
            watch.keeps_too_much(&memory, used * MB, now)
        };
        assert!(!looks(30), "what it starts with");
        let holder = Holder::of(&memory, 200_000_000);
        assert!(!looks(235), "it is held");
        drop(holder);
        assert!(looks(235));
        assert!(!looks(40), "it was given back");
        assert!(looks(80), "what is in no account may be free, too");
        assert!(!looks(80), "it was not: it is asked once");
        assert!(!looks(90));
        assert!(looks(115));
        assert!(!watch.keeps_too_much(&memory, 900 * MB, now), "not at once again");
    }

    #[test]
    fn what_could_not_be_given_back_under_load_is_given_back_after_it() {
        let memory = Memory::new(Limits { outgoing: 0, incoming: 0, process: 1000 * MB });
        let (mut watch, mut now) = (Watch::default(), Instant::now());
        let mut looks = |used: u64| {
            now += GIVE_BACK;
            watch.keeps_too_much(&memory, used * MB, now)
        };
        assert!(!looks(34), "what it starts with");
        let holder = Holder::of(&memory, 70_000_000);
        assert!(looks(205), "135 MB that no connection holds");
        assert!(!looks(200), "they are in use");
        drop(holder);
        assert!(looks(163), "their use is over");
        assert!(!looks(163), "once");
    }

    #[test]
    fn the_largest_are_cut_off_and_no_more_than_needed() {
        let memory = Memory::new(Limits { outgoing: 0, incoming: 0, process: 100 * MB });
        let sizes = [3_000_000, 1000, 9_000_000, 5_000_000, 2_000_000];
        let holders = sizes.map(|held| Holder::of(&memory, held));
        let (mut watch, mut now) = (Watch::default(), Instant::now());
        watch.look(&memory, 89 * MB, now);
        assert_eq!(ended(&holders), [false; 5], "not near yet");
        watch.look(&memory, 91 * MB, now);
        assert_eq!(ended(&holders), [false, false, true, true, false], "11 MB too much");
        assert_eq!(holders[2].account.cut_off(), Some(Slow::Memory));
        // Their memory is not free at once.
        now += Duration::from_millis(100);
        watch.look(&memory, 91 * MB, now);
        assert_eq!(ended(&holders), [false, false, true, true, false]);
        // It did not help, or usage still rises.
        now += Duration::from_millis(100);
        watch.look(&memory, 92 * MB, now);
        assert_eq!(ended(&holders), [true, false, true, true, true], "who holds little stays");
        now += SETTLE;
        watch.look(&memory, 101 * MB, now);
        assert_eq!((ended(&holders)[1], memory.level()), (false, Level::Over));
        watch.look(&memory, 79 * MB, now);
        assert_eq!(memory.level(), Level::Calm);
        assert!(holders.iter().all(|holder| Arc::strong_count(&holder.transport) == 1));
    }
}
