//! How much text is read, in bytes, so that this crate's own tests can hold what is done with a message to
//! a number of passes, and hold some threads and locks to none.

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

/// How many bytes of text this thread reads while it does `work`, beside what comes of it.
#[cfg(test)]
pub fn read_by<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = READ.get();
    let done = work();
    (READ.get() - before, done)
}
