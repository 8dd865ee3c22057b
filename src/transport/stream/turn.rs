//! Turns of connections that send without a pause.

use super::READ_SIZE;

/// After so many bytes a connection that sends without a pause lets others read, in bytes. The runtime's own budget counts
/// reads: 128 of them, and the work on what they bring, take many milliseconds.
const TURN: usize = 2 * READ_SIZE;

/// How many bytes were read since there was nothing to read, or others were let read.
#[derive(Debug, Default)]
pub(super) struct Turn(usize);

impl Turn {
    /// Whether others are to be let read now; if so, the next turn begins.
    pub(super) fn is_over(&mut self) -> bool {
        let is_over = self.0 >= TURN;
        if is_over {
            self.0 = 0;
        }
        is_over
    }

    /// Notes how much was read, or that there was nothing: while it waits, others read.
    pub(super) fn note(&mut self, read: Option<usize>) {
        self.0 = read.map_or(0, |read| self.0 + read);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_sends_without_a_pause_lets_others_read() {
        let mut turn = Turn::default();
        let mut reads = |read| {
            let is_over = turn.is_over();
            if !is_over {
                turn.note(read);
            }
            is_over
        };
        let all = Some(READ_SIZE);
        assert_eq!([all; 7].map(&mut reads), [false, false, true, false, false, true, false]);
        // It had to wait, and has a whole turn again.
        assert_eq!([None, all, all, all].map(&mut reads), [false, false, false, true]);
    }
}
