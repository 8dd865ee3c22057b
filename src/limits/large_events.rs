//! Large events take turns, so that they never occupy all workers of the runtime.
//!
//! Reading an event of a megabyte takes milliseconds. If hundreds of clients sent such events at once, everybody else's
//! events would wait for seconds until all of them were read.

use tokio::{
    runtime::Handle,
    sync::{Semaphore, SemaphorePermit},
};

/// Events of so many bytes are large. Reading a smaller one takes a fraction of a millisecond.
const LARGE: usize = 16 * 1024;

/// The turns in which large events are read.
#[derive(Debug)]
pub struct LargeEvents(Semaphore);

impl LargeEvents {
    /// Leaves half of the runtime's workers to all other work, where there are several.
    pub fn of_runtime() -> Self {
        Self::of_workers(Handle::try_current().map_or(1, |runtime| runtime.metrics().num_workers()))
    }

    fn of_workers(workers: usize) -> Self {
        Self(Semaphore::new((workers / 2).max(1)))
    }

    /// Waits until an event of so many bytes may be read. Dropping the turn ends it; smaller events need none.
    pub async fn turn(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        if bytes < LARGE {
            return None;
        }
        // It is never closed.
        self.0.acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn large_events_leave_half_of_the_workers_to_others() {
        let events = LargeEvents::of_workers(4);
        let turns = [0; 2].map(|_| events.turn(LARGE).now_or_never().expect("it is free"));
        assert!(turns.iter().all(Option::is_some));
        let mut third = Box::pin(events.turn(LARGE));
        assert!(third.as_mut().now_or_never().is_none(), "all turns are taken");
        assert!(matches!(events.turn(LARGE - 1).now_or_never(), Some(None)), "it needs none");
        drop(turns);
        assert!(third.now_or_never().is_some_and(|turn| turn.is_some()));
    }

    #[test]
    fn a_single_worker_reads_them_too() {
        let events = LargeEvents::of_workers(1);
        assert!(matches!(events.turn(LARGE).now_or_never(), Some(Some(_))));
    }
}
