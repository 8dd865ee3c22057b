//! The one outgoing queue of a connection: what is still to be written, in order.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes};

use super::frame::{self, Frames};

/// How many pieces one system call takes at most.
pub(super) const BATCH: usize = 64;

/// The capacity that an empty queue keeps.
const KEPT: usize = 16;

/// Pieces of bytes that wait to be written. Only whole frames are put in.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pieces: VecDeque<Bytes>,
    unsent: usize,
    /// How many bytes have left in all.
    taken: u64,
}

impl Queue {
    /// Appends a packet.
    pub(super) fn push(&mut self, frames: &Frames) {
        self.pieces.extend(frames.pieces().cloned());
        self.unsent += frames.size();
    }

    /// Appends bytes that are whole frames.
    pub(super) fn push_bytes(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.pieces.push_back(Bytes::copy_from_slice(bytes));
            self.unsent += bytes.len();
        }
    }

    /// The number of bytes.
    pub(super) fn unsent(&self) -> usize {
        self.unsent
    }

    /// How many bytes have left since the beginning.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// The number of pieces.
    pub(super) fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// Whether there is nothing to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Passes the next pieces to `write`, and removes as many bytes as it has taken.
    pub(super) fn write(
        &mut self,
        write: impl FnOnce(&[IoSlice<'_>]) -> std::io::Result<usize>,
    ) -> std::io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); BATCH];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        let taken = write(&slices[..count])?;
        self.advance(taken);
        Ok(taken)
    }

    fn advance(&mut self, mut taken: usize) {
        self.unsent -= taken;
        self.taken += taken as u64;
        while let Some(first) = self.pieces.front_mut() {
            if first.len() > taken {
                first.advance(taken);
                return;
            }
            taken -= first.len();
            self.pieces.pop_front();
        }
        // Frees the memory that a burst needed.
        self.pieces.shrink_to(KEPT);
    }

    /// Takes out whole frames of at most `most` bytes, but at least one.
    pub(super) fn take(&mut self, most: usize) -> Vec<Bytes> {
        let (mut taken, mut size) = (Vec::new(), 0);
        while let Some(first) = self.pieces.front() {
            let next = frame::size(first).unwrap_or(first.len());
            if size > 0 && size + next > most {
                break;
            }
            size += next;
            let mut left = next;
            while left > 0
                && let Some(first) = self.pieces.front_mut()
            {
                let part = first.split_to(left.min(first.len()));
                left -= part.len();
                taken.push(part);
                if first.is_empty() {
                    self.pieces.pop_front();
                }
            }
        }
        self.unsent -= size;
        self.taken += size as u64;
        self.pieces.shrink_to(KEPT);
        taken
    }

    /// Puts back what was taken.
    pub(super) fn put_back(&mut self, taken: Vec<Bytes>) {
        for piece in taken.into_iter().rev() {
            self.unsent += piece.len();
            self.taken -= piece.len() as u64;
            self.pieces.push_front(piece);
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn everything_leaves_once_and_in_order(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..200),
            takes in proptest::collection::vec(1_usize..300, 1..10),
        ) {
            let mut queue = Queue::default();
            for piece in &pieces {
                queue.push_bytes(piece);
            }
            let wanted = pieces.concat();
            prop_assert_eq!(queue.unsent(), wanted.len());
            let (mut written, mut takes) = (Vec::<u8>::new(), takes.iter().cycle());
            while !queue.is_empty() {
                let take = *takes.next().unwrap();
                let before = queue.unsent();
                let taken = queue.write(|slices| {
                    let shown = slices.iter().flat_map(|slice| slice.iter().copied());
                    let part = shown.take(take).collect::<Vec<_>>();
                    written.extend(&part);
                    Ok(part.len())
                }).unwrap();
                prop_assert_eq!(queue.unsent(), before - taken);
            }
            prop_assert_eq!(written, wanted);
        }
    }
}
