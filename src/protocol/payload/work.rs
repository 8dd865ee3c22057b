//! Counts the bytes of text that are read, so that this crate's own tests can limit the passes over a
//! message, and forbid reading on some threads and under some locks.

/// Counts `bytes` of text that are about to be read.
#[cfg(not(test))]
pub const fn reads(_bytes: usize) {}

#[cfg(test)]
thread_local! {
    static READ: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Counts `bytes` of text that are about to be read.
#[cfg(test)]
pub fn reads(bytes: usize) {
    READ.set(READ.get() + bytes);
}

/// How many bytes of text this thread reads during `work`, and the result of `work`.
#[cfg(test)]
pub fn read_by<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = READ.get();
    let done = work();
    (READ.get() - before, done)
}
