//! A socket without a kernel: it takes as much as its peer, which is a part of the test, reads.

use std::{
    io::{self, ErrorKind, IoSlice},
    sync::Arc,
};

use shuttle::{
    future::yield_now,
    rand::{Rng, thread_rng},
};
use tokio::net::{TcpStream, tcp::OwnedReadHalf};

use crate::{
    limits::Slot,
    sync::{Mutex, Notify},
};

/// How much the peer reads at once, at most: less than a frame, or several.
const READ: usize = 40;

/// How to try to write.
#[derive(Debug, Clone, Copy)]
pub enum Try {
    Ready,
    Anyway,
}

/// Both the writing half and the peer's side.
#[derive(Debug, Clone, Default)]
pub struct Socket(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    written: Vec<u8>,
    /// How much more the peer reads.
    room: usize,
    is_finished: bool,
    is_reset: bool,
}

impl Socket {
    pub fn split(_: TcpStream, _: Slot) -> (OwnedReadHalf, Self) {
        unreachable!("shuttle has no kernel")
    }

    pub fn write(&self, _: Try, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.0.state.lock();
        assert!(!state.is_finished, "something is written after the end");
        if state.is_reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied());
        let taken = bytes.take(state.room).collect::<Vec<_>>();
        if taken.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        state.room -= taken.len();
        state.written.extend(&taken);
        drop(state);
        self.0.changed.notify_waiters();
        Ok(taken.len())
    }

    pub async fn writable(&self) -> io::Result<()> {
        self.wait_until(|state| state.room > 0 || state.is_reset).await;
        Ok(())
    }

    pub async fn finish(&self) -> io::Result<()> {
        self.change(|state| state.is_finished = true);
        // The peer's own end takes a moment.
        yield_now().await;
        Ok(())
    }

    pub fn reset(&self) {
        self.change(|state| state.is_reset = true);
    }

    /// Reads little by little until `is_enough` says so of what was written, or there is no more; returns all.
    pub async fn read_until(&self, is_enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        loop {
            let is_over = |state: &State| state.is_finished || state.is_reset;
            let mut is_done = false;
            self.change(|state| {
                is_done = is_over(state) || is_enough(&state.written);
                state.room = thread_rng().gen_range(1..READ);
            });
            if is_done {
                return self.0.state.lock().written.clone();
            }
            self.wait_until(|state| state.room == 0 || is_over(state) || is_enough(&state.written))
                .await;
        }
    }

    pub fn is_reset(&self) -> bool {
        self.0.state.lock().is_reset
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.state.lock());
        self.0.changed.notify_waiters();
    }

    async fn wait_until(&self, is: impl Fn(&State) -> bool) {
        loop {
            let changed = self.0.changed.notified();
            if is(&self.0.state.lock()) {
                return;
            }
            changed.await;
        }
    }
}
