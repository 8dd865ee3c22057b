//! Up to where a room's log has been handed to this node's members.
//!
//! What is published on the room's channel is handed over as it comes, as long as each message is the next
//! one. After a gap (a lost connection) the rest is read from the log first. What comes meanwhile is only
//! noted: it is in the log, and read from there. So members get every message once, in the log's order,
//! whichever way it came.

use std::collections::BTreeMap;

use crate::{
    audience::Except,
    store::{Committed, Epoch, Page, Position},
};

/// For how many messages that wait to be read from the log it is remembered who is left out.
const MAX_EXCEPTS: usize = 10_000;

/// The tail of one room's log on this node.
#[derive(Debug, Default)]
pub(super) struct Tail {
    phase: Phase,
    epoch: Option<Epoch>,
    /// The newest message that was handed over, or that came before the first member.
    offset: u64,
    /// The newest message that came and was not handed over.
    noted: Option<(Epoch, u64)>,
    /// Who is left out of what was noted, which the log does not keep.
    excepts: BTreeMap<u64, Except>,
    /// Which session the tail is part of: what an older one began is void.
    pub session: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// Nobody is a member yet: it is not known where the log stands.
    #[default]
    Starting,
    /// What comes is handed over.
    Live,
    /// The log is being read.
    Behind,
}

/// What a message that came means for the tail.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is the next one: it is to be handed over.
    Next,
    /// It was handed over before, or is read from the log in time.
    Nothing,
    /// Something before it is missing: the log is to be read.
    Gap,
}

/// What a page of the log means for the tail.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// What is missing is not kept any more: members cannot be brought up to date by this.
    Lost,
    /// There is more to be read.
    Again,
    /// The tail is live again.
    Done,
}

impl Tail {
    /// Whether members may come, and what comes is handed over.
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Whether it is not known yet where the log stands.
    pub fn is_starting(&self) -> bool {
        self.phase == Phase::Starting
    }

    /// Whether a message has been handed over, or never will be by this tail.
    pub fn has_passed(&self, epoch: Epoch, offset: u64) -> bool {
        self.is_live() && (self.epoch != Some(epoch) || self.offset >= offset)
    }

    /// Begins with the log at this position; `None` where there is no log.
    pub fn start(&mut self, position: Option<Position>) {
        if let Some(position) = position {
            self.epoch = Some(position.epoch);
            // Nobody has read a position of this room here yet, so what came meanwhile is nobody's.
            let came = self.noted.filter(|(epoch, _)| *epoch == position.epoch);
            self.offset = came.map_or(position.head, |(_, offset)| offset.max(position.head));
        }
        self.go_live();
    }

    /// A message has come.
    pub fn arrive(&mut self, message: &Committed) -> Arrival {
        if !self.is_live() {
            self.note(message);
            return Arrival::Nothing;
        }
        let known = self.epoch == Some(message.epoch);
        // The history was lost or forgotten, and begins again at 1.
        let before = if known { self.offset } else { 0 };
        if message.offset <= before {
            return Arrival::Nothing;
        }
        if message.offset > before + 1 {
            self.phase = Phase::Behind;
            self.note(message);
            return Arrival::Gap;
        }
        self.epoch = Some(message.epoch);
        self.offset = message.offset;
        Arrival::Next
    }

    fn note(&mut self, message: &Committed) {
        self.noted = Some((message.epoch, message.offset));
        let is_wanted = self.phase == Phase::Behind && !message.except.is_nobody();
        if is_wanted && self.excepts.len() < MAX_EXCEPTS {
            self.excepts.insert(message.offset, message.except.clone());
        }
    }

    /// The connection was lost: whatever came meanwhile is to be read from the log, if there are members.
    pub fn fall_behind(&mut self, session: u64) {
        self.session = session;
        if self.phase == Phase::Live {
            self.phase = Phase::Behind;
        }
    }

    /// About to read the log: after which message. What is noted from now on may not be in what is read.
    pub fn look(&mut self) -> u64 {
        self.noted = None;
        self.offset
    }

    /// The log was read: hands what is missing to `deliver`, message by message.
    pub fn catch_up(
        &mut self,
        page: &Page,
        mut deliver: impl FnMut(Epoch, &crate::store::Stored, &Except),
    ) -> Turn {
        let Position { head, epoch, .. } = page.position;
        if self.epoch.replace(epoch) != Some(epoch) {
            // Another history: what this node missed of the old one is gone with it.
            self.offset = 0;
            self.excepts.clear();
            if head > 0 {
                return Turn::Again;
            }
        }
        let missing = if page.items.first().is_some_and(|item| item.offset == self.offset + 1) {
            for item in &page.items {
                let except = self.excepts.remove(&item.offset).unwrap_or_default();
                deliver(epoch, item, &except);
                self.offset = item.offset;
            }
            false
        } else {
            head != self.offset
        };
        if missing {
            self.offset = head;
            self.excepts.clear();
            return Turn::Lost;
        }
        let covers = |(noted, offset): (Epoch, u64)| noted == epoch && offset <= self.offset;
        let is_newest = page.complete && self.noted.is_none_or(covers);
        if !is_newest {
            return Turn::Again;
        }
        self.go_live();
        Turn::Done
    }

    fn go_live(&mut self) {
        self.phase = Phase::Live;
        self.noted = None;
        self.excepts.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use socketioxide::socket::Sid;

    use super::*;
    use crate::{
        names::RoomName,
        store::{Entry, RoomKey, Stored},
    };

    fn epoch(number: u64) -> Epoch {
        format!("{number:016x}").parse().unwrap()
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

    fn message(number: u64, offset: u64, except: Except) -> Committed {
        let room = RoomKey { namespace: "/".into(), room: RoomName::parse("r").unwrap() };
        Committed { room, offset, epoch: epoch(number), entry: Arc::new(entry(offset)), except }
    }

    /// A log as Redis has it: of one epoch, with what is kept of it.
    #[derive(Debug, Clone, Copy)]
    struct Log {
        epoch: u64,
        oldest: u64,
        head: u64,
    }

    impl Log {
        fn position(self) -> Position {
            Position { head: self.head, oldest: self.oldest, epoch: epoch(self.epoch) }
        }

        /// At most three messages at a time.
        fn read(self, after: u64) -> Page {
            let from = self.oldest.max(after + 1);
            let to = self.head.min(from + 2);
            let stored = |offset| Stored { offset, entry: entry(offset), receipts: vec![] };
            let items = (from..=to).map(stored).collect();
            Page { items, position: self.position(), complete: to >= self.head }
        }
    }

    /// Reads on until the tail is live; returns what was handed over, and whether something was lost.
    fn catch_up(tail: &mut Tail, log: Log) -> (Vec<u64>, bool) {
        let (mut read, mut lost) = (Vec::new(), false);
        for _ in 0..1000 {
            let page = log.read(tail.look());
            match tail.catch_up(&page, |_, item, _| read.push(item.offset)) {
                Turn::Again => {}
                Turn::Lost => lost = true,
                Turn::Done => return (read, lost),
            }
        }
        panic!("it never ends");
    }

    fn live(head: u64) -> Tail {
        let mut tail = Tail::default();
        tail.start(Some(Log { epoch: 1, oldest: 1, head }.position()));
        tail
    }

    #[test]
    fn what_comes_late_or_twice_is_not_handed_over() {
        let mut tail = live(5);
        let mut arrive = |offset| tail.arrive(&message(1, offset, Except::nobody()));
        assert_eq!([4, 5, 6, 6, 7].map(&mut arrive), {
            use Arrival::{Next, Nothing};
            [Nothing, Nothing, Next, Nothing, Next]
        });
        assert!(tail.has_passed(epoch(1), 7) && !tail.has_passed(epoch(1), 8));
    }

    #[test]
    fn after_a_gap_the_log_is_read_and_who_is_left_out_is_remembered() {
        let mut tail = live(5);
        let left_out = Except::client(Some(Sid::new()));
        assert_eq!(tail.arrive(&message(1, 8, left_out.clone())), Arrival::Gap);
        assert_eq!(tail.arrive(&message(1, 9, Except::nobody())), Arrival::Nothing);
        assert!(!tail.has_passed(epoch(1), 8));
        let mut read = Vec::new();
        let mut turns = Vec::new();
        // What comes while it is read is read once more, and is not yet in the page.
        for head in [9, 10] {
            let page = Log { epoch: 1, oldest: 1, head }.read(tail.look());
            if turns.is_empty() {
                assert_eq!(tail.arrive(&message(1, 10, Except::nobody())), Arrival::Nothing);
            }
            turns.push(
                tail.catch_up(&page, |_, item, except| read.push((item.offset, except.clone()))),
            );
        }
        assert_eq!(turns, [Turn::Again, Turn::Done]);
        let nobody = Except::nobody;
        assert_eq!(read[..3], [(6, nobody()), (7, nobody()), (8, left_out)]);
    }

    #[test]
    fn what_is_not_kept_any_more_is_lost_and_told() {
        let mut tail = live(5);
        tail.fall_behind(2);
        assert_eq!(catch_up(&mut tail, Log { epoch: 1, oldest: 9, head: 12 }), (vec![], true));
        assert_eq!(tail.arrive(&message(1, 13, Except::nobody())), Arrival::Next);
        // A log that goes back, without another epoch, has lost something as well.
        tail.fall_behind(3);
        assert_eq!(catch_up(&mut tail, Log { epoch: 1, oldest: 1, head: 11 }), (vec![], true));
        assert_eq!(tail.arrive(&message(1, 12, Except::nobody())), Arrival::Next);
    }

    #[test]
    fn another_history_is_read_from_its_beginning() {
        let mut tail = live(5);
        tail.fall_behind(2);
        let log = Log { epoch: 2, oldest: 1, head: 4 };
        assert_eq!(catch_up(&mut tail, log), (vec![1, 2, 3, 4], false));
        // And where it begins while the channel is heard.
        assert_eq!(tail.arrive(&message(3, 1, Except::nobody())), Arrival::Next);
        assert_eq!(tail.arrive(&message(4, 2, Except::nobody())), Arrival::Gap);
        let log = Log { epoch: 4, oldest: 1, head: 2 };
        assert_eq!(catch_up(&mut tail, log), (vec![1, 2], false));
        // An empty one has nothing to be read.
        tail.fall_behind(3);
        assert_eq!(catch_up(&mut tail, Log { epoch: 5, oldest: 1, head: 0 }), (vec![], false));
        assert_eq!(tail.arrive(&message(5, 1, Except::nobody())), Arrival::Next);
    }

    #[test]
    fn what_came_before_the_first_position_is_nobodys() {
        let mut tail = Tail::default();
        assert!(tail.is_starting());
        assert_eq!(tail.arrive(&message(1, 7, Except::nobody())), Arrival::Nothing);
        tail.start(Some(Log { epoch: 1, oldest: 1, head: 6 }.position()));
        assert_eq!(tail.arrive(&message(1, 8, Except::nobody())), Arrival::Next);
    }

    /// What happens to a tail.
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
                    // What was stored and not heard is gone with its history: it is heard first.
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
                    match tail.arrive(&message(log.epoch, log.head, Except::nobody())) {
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
