//! Small histories, each with one fault in it, or none.

use std::time::Duration;

use super::check;
use crate::history::{Event, Joined, Page, Position, Record, Terms};

/// A history of one room, `r`, whose clients have one connection each, of the same number.
struct Story(Vec<Record>);

impl Story {
    fn begin() -> Self {
        Self::on(Terms { expires: false, refusals_are_doubtful: false })
    }

    fn on(terms: Terms) -> Self {
        Self(Vec::new()).then(None, Event::Began(terms))
    }

    fn then(mut self, who: Option<usize>, event: Event) -> Self {
        let at = Duration::from_millis(self.0.len() as u64);
        self.0.push(Record { at, who: who.map(|who| (who, who)), event });
        self
    }

    fn asks(self, who: usize, from: Option<(u64, &str)>) -> Self {
        let from = from.map(|(offset, epoch)| Position { offset, epoch: Some(epoch.into()) });
        self.then(Some(who), Event::JoinAsked { room: "r".into(), from })
    }

    fn told(
        self,
        who: usize,
        (offset, epoch): (u64, &str),
        recovered: Option<bool>,
        missed: u64,
    ) -> Self {
        let joined = Joined { offset, epoch: epoch.into(), recovered, missed };
        self.then(Some(who), Event::JoinAnswered { room: "r".into(), answer: Ok(joined) })
    }

    /// Becomes a member, or asks where it stands as one.
    fn joins(self, who: usize, at: (u64, &str)) -> Self {
        self.asks(who, None).told(who, at, None, 0)
    }

    fn gets(self, who: usize, messages: &[(u64, &str)]) -> Self {
        messages.iter().fold(self, |story, (offset, id)| {
            let event = Event::Received { room: "r".into(), offset: *offset, id: (*id).into() };
            story.then(Some(who), event)
        })
    }

    fn sends(self, who: usize, id: &str, left_out: Option<usize>) -> Self {
        self.then(Some(who), Event::SendAsked { id: id.into(), room: "r".into(), left_out })
    }

    fn answered(self, who: usize, id: &str, answer: Result<u64, &str>) -> Self {
        let answer = answer.map_err(str::to_owned);
        self.then(Some(who), Event::SendAnswered { id: id.into(), answer })
    }

    /// Sends a message and is told its offset.
    fn says(self, who: usize, id: &str, offset: u64) -> Self {
        self.sends(who, id, None).answered(who, id, Ok(offset))
    }

    fn loses(self) -> Self {
        let what = "EmptyRedis".to_owned();
        self.then(None, Event::FaultBegan { what: what.clone(), loses: true })
            .then(None, Event::FaultEnded { what })
    }

    fn nobody_can_tell(self) -> Self {
        self.then(None, Event::NobodyCanTell)
    }

    /// All is quiet, and this is the log.
    fn ends(self, epoch: &str, messages: &[(u64, &str)]) -> Self {
        let items = messages.iter().map(|(offset, id)| (*offset, (*id).to_owned())).collect();
        let offset = messages.last().map_or(0, |(offset, _)| *offset);
        let page = Page { epoch: epoch.into(), offset, complete: true, items };
        let event = Event::PageAnswered { room: "r".into(), after: 0, answer: Ok(page) };
        self.then(None, Event::Quiet).then(Some(99), event)
    }

    fn queues(self, who: usize, id: &str) -> Self {
        self.then(Some(who), Event::PrivateAsked { id: id.into(), to: "zoe".into() })
            .then(Some(who), Event::PrivateAnswered { id: id.into(), answer: Ok(true) })
    }

    fn zoe_gets(self, who: usize, ids: &[&str]) -> Self {
        let comes = Event::Connected { user: "zoe".into(), node: 0 };
        ids.iter().fold(self.then(Some(who), comes), |story, id| {
            story.then(Some(who), Event::PrivateReceived { id: (*id).into() })
        })
    }

    /// The rules that it breaks.
    #[track_caller]
    fn breaks(self, rules: &[&str]) {
        let violations = check(&self.0);
        let found = violations.iter().map(|violation| violation.rule).collect::<Vec<_>>();
        assert_eq!(found, rules, "{violations:#?}");
        let end = self.0.len();
        assert!(
            violations.iter().all(|violation| violation.records.iter().all(|place| *place < end))
        );
    }
}

const ABC: &[(u64, &str)] = &[(1, "a"), (2, "b"), (3, "c")];

/// One sends three messages, and another one gets them.
fn sent() -> Story {
    Story::begin().joins(1, (0, "E")).says(0, "a", 1).says(0, "b", 2).says(0, "c", 3)
}

#[test]
fn what_is_as_it_should_be_breaks_nothing() {
    sent().gets(1, ABC).joins(1, (3, "E")).ends("E", ABC).breaks(&[]);
}

#[test]
fn a_gap_a_repetition_and_disorder_are_found() {
    sent().gets(1, &[(1, "a"), (3, "c")]).ends("E", ABC).breaks(&["gap"]);
    sent().gets(1, &[(1, "a"), (1, "a"), (2, "b"), (3, "c")]).ends("E", ABC).breaks(&["twice"]);
    sent()
        .gets(1, &[(1, "a"), (3, "c"), (2, "b"), (3, "c")])
        .ends("E", ABC)
        .breaks(&["gap", "twice"]);
}

#[test]
fn what_is_missing_at_the_end_is_found() {
    sent().gets(1, &ABC[..2]).ends("E", ABC).breaks(&["lost"]);
    sent().gets(1, ABC).ends("E", &ABC[..2]).breaks(&["lost", "lost"]);
    let member_has_less =
        sent().gets(1, &ABC[..2]).then(Some(1), Event::Ended { why: String::new() });
    member_has_less.ends("E", ABC).breaks(&[]);
    Story::begin().says(0, "a", 1).breaks(&["lost"]);
}

#[test]
fn different_orders_are_found() {
    let other = [(1, "b"), (2, "a"), (3, "c")];
    let story = Story::begin().joins(1, (0, "E")).joins(2, (0, "E"));
    let found =
        story.gets(1, ABC).gets(2, &other).joins(1, (3, "E")).joins(2, (3, "E")).ends("E", ABC);
    let violations = check(&found.0);
    assert!(!violations.is_empty() && violations.iter().all(|violation| violation.rule == "order"));
    sent()
        .sends(0, "d", None)
        .answered(0, "d", Ok(5))
        .gets(1, ABC)
        .gets(1, &[(4, "d")])
        .ends("E", &[(1, "a"), (2, "b"), (3, "c"), (4, "d")])
        .breaks(&["order", "lost"]);
}

#[test]
fn a_member_that_goes_on_in_another_epoch_is_found() {
    // It is at 2 of E, and F begins: of that it gets nothing before 3.
    let idle = || Story::begin().joins(1, (2, "E")).loses();
    let new = [(1, "d"), (2, "e"), (3, "f")];
    let said = |story: Story| story.says(0, "d", 1).says(0, "e", 2).says(0, "f", 3);
    said(idle()).gets(1, &[(3, "f")]).joins(1, (3, "F")).ends("F", &new).breaks(&["epoch"]);
    said(idle()).joins(1, (3, "F")).ends("F", &new).breaks(&["epoch"]);
    said(idle()).gets(1, &new).joins(1, (3, "F")).ends("F", &new).breaks(&[]);
    // Nothing was lost: then there is no other epoch.
    let kept = Story::begin().joins(1, (2, "E"));
    said(kept).gets(1, &new).joins(1, (3, "F")).ends("F", &new).breaks(&["twice"]);
}

#[test]
fn a_member_may_be_left_out_of_the_whole_beginning_of_an_epoch() {
    let new = [(1, "b"), (2, "c"), (3, "d")];
    let story = Story::begin().joins(1, (0, "E")).joins(2, (0, "E")).says(0, "a", 1);
    let story = story.gets(1, &[(1, "a")]).gets(2, &[(1, "a")]).loses();
    let story = story.sends(1, "b", Some(1)).answered(1, "b", Ok(1));
    let story = story.sends(1, "c", Some(1)).answered(1, "c", Ok(2)).says(0, "d", 3);
    let story = || Story(story.0.clone());
    let got = story().gets(1, &[(3, "d")]).gets(2, &new);
    got.joins(1, (3, "F")).joins(2, (3, "F")).ends("F", &new).breaks(&[]);
    let missing = story().gets(1, &[(3, "d")]).gets(2, &[(1, "b"), (3, "d")]);
    missing.joins(1, (3, "F")).joins(2, (3, "F")).ends("F", &new).breaks(&["gap"]);
}

#[test]
fn offsets_may_go_on_in_another_epoch_whose_beginning_a_member_is_left_out_of() {
    let new = [(1, "b"), (2, "c")];
    let story = Story::begin().joins(1, (0, "E")).joins(2, (0, "E")).says(0, "a", 1);
    let story = story.gets(1, &[(1, "a")]).gets(2, &[(1, "a")]).loses();
    let story = story.sends(1, "b", Some(1)).answered(1, "b", Ok(1)).gets(2, &[(1, "b")]);
    let story = || Story(story.0.clone());
    let next = story().says(0, "c", 2).gets(1, &[(2, "c")]).gets(2, &[(2, "c")]);
    next.joins(1, (2, "F")).joins(2, (2, "F")).ends("F", &new).breaks(&[]);
    let asked = story().joins(1, (1, "F")).joins(2, (1, "F")).says(0, "c", 2);
    asked.gets(1, &[(2, "c")]).gets(2, &[(2, "c")]).ends("F", &new).breaks(&[]);
    let missing = story().says(0, "c", 2).says(0, "d", 3).gets(1, &[(3, "d")]);
    let all = [(1, "b"), (2, "c"), (3, "d")];
    missing.joins(1, (3, "F")).ends("F", &all).breaks(&["gap", "order", "lost"]);
}

#[test]
fn who_asked_again_after_being_left_out_may_go_on_in_another_epoch() {
    let story = || {
        let story = Story::begin().joins(1, (0, "E")).joins(2, (0, "E"));
        let story = story.sends(1, "a", Some(1)).answered(1, "a", Ok(1)).gets(2, &[(1, "a")]);
        story.joins(1, (1, "E")).joins(2, (1, "E"))
    };
    let all_get = |story: Story| story.says(0, "b", 1).gets(1, &[(1, "b")]).gets(2, &[(1, "b")]);
    let lost = all_get(story().loses());
    lost.joins(1, (1, "F")).joins(2, (1, "F")).ends("F", &[(1, "b")]).breaks(&[]);
    // Nothing was lost: what it is told to have reached does not come once more.
    let kept = story().gets(1, &[(1, "a")]).ends("E", &[(1, "a")]);
    kept.breaks(&["left out", "twice"]);
}

#[test]
fn who_is_left_out_of_another_epoch_s_beginning_may_be_told_to_be_there() {
    let got =
        || Story::begin().joins(1, (0, "E")).says(0, "a", 1).says(0, "b", 2).gets(1, &ABC[..2]);
    let lost = got().loses().sends(0, "c", Some(1)).answered(0, "c", Ok(1)).joins(1, (1, "F"));
    let lost = lost.says(0, "d", 2).gets(1, &[(2, "d")]);
    lost.ends("F", &[(1, "c"), (2, "d")]).breaks(&[]);
    let never_got = got().loses().says(0, "c", 1).joins(1, (1, "F"));
    never_got.ends("F", &[(1, "c")]).breaks(&["epoch"]);
    let behind = got().joins(1, (1, "E"));
    behind.ends("E", &ABC[..2]).breaks(&["ack"]);
}

#[test]
fn where_nobody_can_tell_epochs_change_and_nothing_is_lost() {
    let changed = || sent().gets(1, ABC).nobody_can_tell().says(0, "d", 4).asks(2, Some((3, "E")));
    let all = [ABC, &[(4, "d")]].concat();
    let told = || changed().told(2, (4, "F"), Some(false), 0);
    told().gets(1, &[(1, "a"), (2, "b"), (3, "c"), (4, "d")]).ends("F", &all).breaks(&[]);
    let gap = told().gets(1, &[(1, "a"), (2, "b"), (4, "d")]);
    gap.ends("F", &all).breaks(&["gap"]);
    let lost = told().gets(1, &[(1, "a"), (2, "b"), (3, "c"), (4, "d")]);
    lost.ends("F", ABC).breaks(&["lost", "lost", "lost"]);
}

#[test]
fn what_was_lost_with_its_epoch_is_not_missed_and_what_came_after_is() {
    sent()
        .gets(1, ABC)
        .loses()
        .says(0, "d", 1)
        .gets(1, &[(1, "d")])
        .joins(1, (1, "F"))
        .ends("F", &[(1, "d")])
        .breaks(&[]);
    sent()
        .gets(1, ABC)
        .loses()
        .says(0, "d", 1)
        .gets(1, &[(1, "d")])
        .joins(1, (1, "F"))
        .ends("F", &[])
        .breaks(&["lost", "lost"]);
    // A replica that was behind: the epoch begins with what it had.
    let again = [(1, "a"), (2, "b"), (3, "d")];
    sent()
        .gets(1, ABC)
        .loses()
        .says(0, "d", 3)
        .gets(1, &again)
        .joins(1, (3, "F"))
        .ends("F", &again)
        .breaks(&[]);
}

#[test]
fn an_answer_that_tells_less_or_more_than_came_is_found() {
    let begun = || Story::begin().says(0, "a", 1).says(0, "b", 2).says(0, "c", 3).asks(1, None);
    begun().gets(1, &ABC[1..]).told(1, (1, "E"), None, 0).ends("E", ABC).breaks(&["ack"]);
    begun().gets(1, &ABC[1..]).told(1, (3, "E"), None, 0).ends("E", ABC).breaks(&[]);
    begun()
        .gets(1, &ABC[1..2])
        .told(1, (3, "E"), None, 0)
        .gets(1, &ABC[2..])
        .ends("E", ABC)
        .breaks(&["ack", "twice"]);
    begun().told(1, (3, "E"), None, 0).ends("E", ABC).breaks(&[]);
}

#[test]
fn a_recovery_that_is_not_whole_is_found() {
    let begun =
        || Story::begin().says(0, "a", 1).says(0, "b", 2).says(0, "c", 3).asks(1, Some((1, "E")));
    begun().gets(1, &ABC[1..]).told(1, (3, "E"), Some(true), 2).ends("E", ABC).breaks(&[]);
    begun().told(1, (3, "E"), Some(false), 0).ends("E", ABC).breaks(&[]);
    begun()
        .gets(1, &ABC[2..])
        .told(1, (3, "E"), Some(true), 2)
        .ends("E", ABC)
        .breaks(&["gap", "recovery"]);
    begun()
        .gets(1, &ABC[1..])
        .told(1, (3, "F"), Some(true), 2)
        .loses()
        .ends("F", ABC)
        .breaks(&["recovery"]);
    // What was said while it recovered comes behind.
    begun().gets(1, &ABC[1..]).told(1, (3, "E"), Some(true), 1).ends("E", ABC).breaks(&[]);
}

#[test]
fn who_is_left_out_may_miss_that_message_and_must() {
    let said = || {
        let story = Story::begin().joins(0, (0, "E")).joins(1, (0, "E")).says(1, "a", 1);
        story.sends(0, "b", Some(0)).answered(0, "b", Ok(2)).says(1, "c", 3)
    };
    said().gets(0, &[(1, "a"), (3, "c")]).gets(1, ABC).ends("E", ABC).breaks(&[]);
    said().gets(0, ABC).gets(1, ABC).ends("E", ABC).breaks(&["left out"]);
    said().gets(0, &[(3, "c")]).gets(1, ABC).ends("E", ABC).breaks(&["gap"]);
    // Replayed, it comes all the same.
    let back = Event::Ended { why: String::new() };
    let story = said().gets(1, ABC).gets(0, &[(1, "a")]).then(Some(0), back);
    story
        .asks(0, Some((1, "E")))
        .gets(0, &ABC[1..])
        .told(0, (3, "E"), Some(true), 2)
        .ends("E", ABC)
        .breaks(&[]);
}

#[test]
fn one_that_nobody_answered_may_be_one_that_is_left_out() {
    let story =
        Story::begin().joins(0, (0, "E")).joins(1, (0, "E")).says(1, "a", 1).sends(0, "b", Some(0));
    story.says(1, "c", 3).gets(0, &[(1, "a"), (3, "c")]).gets(1, ABC).ends("E", ABC).breaks(&[]);
}

#[test]
fn what_is_refused_comes_nowhere_where_that_is_sure() {
    let story = |terms| {
        let story = Story::on(terms).joins(1, (0, "E")).sends(0, "a", None);
        story.answered(0, "a", Err("unavailable")).gets(1, &ABC[..1]).ends("E", &ABC[..1])
    };
    story(Terms { expires: false, refusals_are_doubtful: false }).breaks(&["refused"]);
    story(Terms { expires: false, refusals_are_doubtful: true }).breaks(&[]);
}

#[test]
fn who_has_left_gets_nothing() {
    let left = Event::LeaveAnswered { room: "r".into(), answer: Ok(()) };
    sent()
        .gets(1, &ABC[..1])
        .then(Some(1), left)
        .gets(1, &ABC[1..2])
        .ends("E", ABC)
        .breaks(&["stranger"]);
}

#[test]
fn a_queue_comes_whole_and_in_order_if_perhaps_twice() {
    let queued = || Story::begin().queues(0, "a").queues(0, "b");
    queued().zoe_gets(1, &["a", "b"]).breaks(&[]);
    queued().zoe_gets(1, &["a"]).zoe_gets(2, &["a", "b", "a", "b"]).breaks(&[]);
    queued().zoe_gets(1, &["a"]).breaks(&["queue"]);
    queued().zoe_gets(1, &["b", "a"]).breaks(&["queue"]);
    queued().loses().zoe_gets(1, &["b"]).breaks(&[]);
}
