//! The log cursor of a room: up to where its log has been delivered to this node's members.
//!
//! Messages on the room's channel are delivered as they come, as long as each is the next one. After a gap (a
//! lost connection) the missing ones are read from the log first. What comes meanwhile is only noted: it is
//! in the log, and read from there. So members get every message once, in the log's order, whichever way it
//! came.

use crate::{
    protocol::position::Position,
    store::{Committed, Page, Stored},
};

/// The log cursor of one room on this node.
#[derive(Debug, Default)]
pub(super) struct Tail {
    phase: Phase,
    /// The newest message that was delivered, or that came before the first member; `None` without a log.
    at: Option<Position>,
    /// The newest message that came and was not delivered.
    noted: Option<Position>,
    /// The session that the cursor belongs to: what an older one began is void.
    pub session: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// Nobody is a member yet: the log's head is unknown.
    #[default]
    Starting,
    /// Messages are delivered as they come.
    Live,
    /// The log is being read.
    Behind,
}

/// What a message that came means for the cursor.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is the next one, to be delivered.
    Next,
    /// It was delivered before, or will be read from the log.
    Nothing,
    /// Something before it is missing: the log must be read.
    Gap,
}

/// What a page of the log means for the cursor.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The missing messages are no longer kept: members cannot catch up from the log.
    Lost,
    /// There is more to read.
    Again,
    /// The cursor is live again.
    Done,
}

impl Tail {
    /// Whether members may come, and messages are delivered as they come.
    pub(super) fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Whether the log's head is still unknown.
    pub(super) fn is_starting(&self) -> bool {
        self.phase == Phase::Starting
    }

    /// The newest message that was delivered, or that came before the first member; `None` without a log.
    pub(super) fn position(&self) -> Option<Position> {
        self.at
    }

    /// Whether a message has been delivered, or never will be by this cursor.
    pub(super) fn has_passed(&self, message: Position) -> bool {
        self.is_live() && self.at.is_none_or(|at| at.epoch != message.epoch || at.covers(message))
    }

    /// Begins at the log's head; `None` if there is no log.
    pub(super) fn start(&mut self, head: Option<Position>) {
        // Nobody has read a position of this room here yet, so nobody needs what came meanwhile.
        let came = self.noted.filter(|noted| head.is_some_and(|head| noted.covers(head)));
        self.at = came.or(head);
        self.go_live();
    }

    /// A message has come.
    pub(super) fn arrive(&mut self, message: &Committed) -> Arrival {
        let position = message.position;
        if !self.is_live() {
            self.noted = Some(position);
            return Arrival::Nothing;
        }
        // A history that was lost or forgotten begins again at 1.
        let before = self.at.filter(|at| at.epoch == position.epoch);
        let before = before.unwrap_or(Position::start_of(position.epoch));
        if before.covers(position) {
            return Arrival::Nothing;
        }
        if !before.is_followed_by(position) {
            self.phase = Phase::Behind;
            self.noted = Some(position);
            return Arrival::Gap;
        }
        self.at = Some(position);
        Arrival::Next
    }

    /// The connection was lost: what came meanwhile must be read from the log, if there are members.
    pub(super) fn fall_behind(&mut self, session: u64) {
        self.session = session;
        if self.phase == Phase::Live {
            self.phase = Phase::Behind;
        }
    }

    /// The offset after which to read the log. What is noted from now on may not be in the page.
    pub(super) fn look(&mut self) -> u64 {
        self.noted = None;
        self.at.map_or(0, |at| at.offset)
    }

    /// Takes a page of the log and passes the missing messages to `deliver`, one by one.
    pub(super) fn catch_up(
        &mut self,
        page: &Page,
        mut deliver: impl FnMut(Position, &Stored),
    ) -> Turn {
        let head = page.extent.head;
        let start = Position::start_of(head.epoch);
        let known = self.at.filter(|at| at.epoch == head.epoch);
        if known.is_none() && head != start {
            // Another history: what this node missed of the old one is gone with it.
            self.at = Some(start);
            return Turn::Again;
        }
        let mut at = known.unwrap_or(start);
        if page.items.first().is_some_and(|item| at.is_followed_by(at.at(item.offset))) {
            for item in &page.items {
                at = at.at(item.offset);
                deliver(at, item);
            }
        } else if at != head {
            self.at = Some(head);
            return Turn::Lost;
        }
        self.at = Some(at);
        let is_newest = page.complete && self.noted.is_none_or(|noted| at.covers(noted));
        if !is_newest {
            return Turn::Again;
        }
        self.go_live();
        Turn::Done
    }

    fn go_live(&mut self) {
        self.phase = Phase::Live;
        self.noted = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        protocol::{audience::Except, epoch::Epoch, names::RoomName},
        store::{Entry, Extent, RoomKey},
    };

    fn epoch(number: u64) -> Epoch {
        format!("{number:016x}").parse().unwrap()
    }

    fn at(number: u64, offset: u64) -> Position {
        Position { offset, epoch: epoch(number) }
    }

    fn entry(offset: u64) -> Entry {
        let json = "{}".into();
        Entry {
            id: offset.to_string(),
            event: "e".into(),
            json,
            attachments: vec![],
            timestamp_ms: 0,
        }
    }

    fn message(number: u64, offset: u64) -> Committed {
        let room = RoomKey { namespace: "/".into(), room: RoomName::parse("r").unwrap() };
        Committed {
            room,
            position: at(number, offset),
            entry: Arc::new(entry(offset)),
            except: Except::nobody(),
        }
    }

    /// A log as Redis has it: one epoch, and the messages that are kept.
    #[derive(Debug, Clone, Copy)]
    struct Log {
        epoch: u64,
        oldest: u64,
        head: u64,
    }

    impl Log {
        fn extent(self) -> Extent {
            Extent { head: at(self.epoch, self.head), oldest: self.oldest }
        }

        /// At most three messages at a time.
        fn read(self, after: u64) -> Page {
            let from = self.oldest.max(after + 1);
            let to = self.head.min(from + 2);
            let stored = |offset| Stored {
                offset,
                entry: entry(offset),
                except: Except::nobody(),
                receipts: vec![],
            };
            let items = (from..=to).map(stored).collect();
            Page { items, extent: self.extent(), complete: to >= self.head }
        }
    }

    /// Reads on until the cursor is live; returns what was delivered, and whether something was lost.
    fn catch_up(tail: &mut Tail, log: Log) -> (Vec<u64>, bool) {
        let (mut read, mut lost) = (Vec::new(), false);
        for _ in 0..1000 {
            let page = log.read(tail.look());
            match tail.catch_up(&page, |_, item| read.push(item.offset)) {
                Turn::Again => {}
                Turn::Lost => lost = true,
                Turn::Done => return (read, lost),
            }
        }
        panic!("it never ends");
    }

    fn live(head: u64) -> Tail {
        let mut tail = Tail::default();
        tail.start(Some(at(1, head)));
        tail
    }

    #[test]
    fn what_comes_late_or_twice_is_not_handed_over() {
        let mut tail = live(5);
        let mut arrive = |offset| tail.arrive(&message(1, offset));
        assert_eq!([4, 5, 6, 6, 7].map(&mut arrive), {
            use Arrival::{Next, Nothing};
            [Nothing, Nothing, Next, Nothing, Next]
        });
        assert!(tail.has_passed(at(1, 7)) && !tail.has_passed(at(1, 8)));
    }

    #[test]
    fn after_a_gap_the_log_is_read() {
        let mut tail = live(5);
        assert_eq!(tail.arrive(&message(1, 8)), Arrival::Gap);
        assert_eq!(tail.arrive(&message(1, 9)), Arrival::Nothing);
        assert!(!tail.has_passed(at(1, 8)));
        let (mut read, mut turns) = (Vec::new(), Vec::new());
        // A message that comes during a read is not in its page, so the log is read once more.
        for head in [9, 10] {
            let page = Log { epoch: 1, oldest: 1, head }.read(tail.look());
            if turns.is_empty() {
                assert_eq!(tail.arrive(&message(1, 10)), Arrival::Nothing);
            }
            turns.push(tail.catch_up(&page, |position, _| read.push(position)));
        }
        assert_eq!(turns, [Turn::Again, Turn::Done]);
        assert_eq!(read, (6..=10).map(|offset| at(1, offset)).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_not_kept_any_more_is_lost_and_told() {
        let mut tail = live(5);
        tail.fall_behind(2);
        assert_eq!(catch_up(&mut tail, Log { epoch: 1, oldest: 9, head: 12 }), (vec![], true));
        assert_eq!(tail.arrive(&message(1, 13)), Arrival::Next);
        // A log that goes back, without another epoch, has lost something as well.
        tail.fall_behind(3);
        assert_eq!(catch_up(&mut tail, Log { epoch: 1, oldest: 1, head: 11 }), (vec![], true));
        assert_eq!(tail.arrive(&message(1, 12)), Arrival::Next);
    }

    #[test]
    fn another_history_is_read_from_its_beginning() {
        let mut tail = live(5);
        tail.fall_behind(2);
        let log = Log { epoch: 2, oldest: 1, head: 4 };
        assert_eq!(catch_up(&mut tail, log), (vec![1, 2, 3, 4], false));
        // The same if a new history begins while the channel is heard.
        assert_eq!(tail.arrive(&message(3, 1)), Arrival::Next);
        assert_eq!(tail.arrive(&message(4, 2)), Arrival::Gap);
        let log = Log { epoch: 4, oldest: 1, head: 2 };
        assert_eq!(catch_up(&mut tail, log), (vec![1, 2], false));
        // An empty history has nothing to read.
        tail.fall_behind(3);
        assert_eq!(catch_up(&mut tail, Log { epoch: 5, oldest: 1, head: 0 }), (vec![], false));
        assert_eq!(tail.arrive(&message(5, 1)), Arrival::Next);
    }

    #[test]
    fn what_came_before_the_first_position_is_nobodys() {
        let mut tail = Tail::default();
        assert!(tail.is_starting());
        assert_eq!(tail.arrive(&message(1, 7)), Arrival::Nothing);
        tail.start(Some(at(1, 6)));
        assert_eq!(tail.arrive(&message(1, 8)), Arrival::Next);
    }

    /// What happens to a cursor.
    #[derive(Debug, Clone)]
    enum Step {
        /// A message is stored, and comes by the channel.
        Heard,
        /// A message is stored, and does not come.
        Unheard,
        /// The newest message comes once more.
        Twice,
        /// The connection was lost, and is there again.
        Reconnected,
        /// The room's history is forgotten.
        Forgotten,
    }

    proptest! {
        #[test]
        fn every_message_is_handed_over_once_and_in_order(
            steps in proptest::collection::vec(prop_oneof![
                8 => Just(Step::Heard), 3 => Just(Step::Unheard), 2 => Just(Step::Twice),
                1 => Just(Step::Reconnected), 1 => Just(Step::Forgotten),
            ], 0..60),
        ) {
            let mut log = Log { epoch: 1, oldest: 1, head: 0 };
            let mut tail = live(0);
            let (mut stored, mut got) = (Vec::new(), Vec::new());
            let mut session = 1;
            for step in steps {
                match step {
                    Step::Heard | Step::Unheard => {
                        log.head += 1;
                        stored.push((log.epoch, log.head));
                    }
                    // Messages that were stored and not heard would go with the history, so they are read
                    // first.
                    Step::Forgotten | Step::Reconnected => {
                        session += 1;
                        tail.fall_behind(session);
                        let (read, lost) = catch_up(&mut tail, log);
                        prop_assert!(!lost);
                        got.extend(read.into_iter().map(|offset| (log.epoch, offset)));
                    }
                    Step::Twice => {}
                }
                if matches!(step, Step::Forgotten) {
                    log = Log { epoch: log.epoch + 1, oldest: 1, head: 0 };
                }
                let is_heard = matches!(step, Step::Heard | Step::Twice) && log.head > 0;
                if is_heard {
                    match tail.arrive(&message(log.epoch, log.head)) {
                        Arrival::Next => got.push((log.epoch, log.head)),
                        Arrival::Nothing => {}
                        Arrival::Gap => {
                            let (read, lost) = catch_up(&mut tail, log);
                            prop_assert!(!lost);
                            got.extend(read.into_iter().map(|offset| (log.epoch, offset)));
                        }
                    }
                }
            }
            tail.fall_behind(session + 1);
            let (read, _) = catch_up(&mut tail, log);
            got.extend(read.into_iter().map(|offset| (log.epoch, offset)));
            prop_assert_eq!(got, stored);
        }
    }
}
