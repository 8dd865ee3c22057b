//! The locks, atomics and tasks of the modules that shuttle tests look at.
//!
//! They are those of `parking_lot`, the standard library and tokio. The tests of the feature `shuttle` replace them
//! by a model, in which shuttle decides at each of them which task goes on.

#[cfg(all(test, feature = "shuttle"))]
mod model;

#[cfg(all(test, feature = "shuttle"))]
pub(crate) use self::model::*;
#[cfg(not(all(test, feature = "shuttle")))]
pub(crate) use self::real::*;

#[cfg(not(all(test, feature = "shuttle")))]
mod real {
    pub(crate) use std::{sync::atomic, time::Instant};

    pub(crate) use parking_lot::{Mutex, MutexGuard, RwLock};
    pub(crate) use tokio::{runtime::Handle as Runtime, sync::Notify, time::timeout};
    use tokio_util::task::TaskTracker;

    /// Spawns a task that `tracker` waits for.
    pub(crate) fn spawn(tracker: &TaskTracker, task: impl Future<Output = ()> + Send + 'static) {
        tracker.spawn(task);
    }
}
