//! What all have in common: the room's log, epoch by epoch.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Violation, facts::Facts, streams::Run};
use crate::history::{Event, Page, Record};

/// The messages of one epoch of a room by their offsets, and the record that tells each.
type Log<'a> = BTreeMap<u64, (&'a str, usize)>;

/// How a room's log is at the end.
struct Audit<'a> {
    epoch: &'a str,
    head: u64,
    complete: bool,
    ids: BTreeMap<u64, &'a str>,
    place: usize,
}

pub(super) fn check(
    records: &[Record],
    facts: &Facts,
    runs: &[Run],
    violations: &mut Vec<Violation>,
) {
    let mut told = Told { logs: HashMap::new(), offsets: HashMap::new(), violations };
    for run in runs {
        for (place, offset, id) in &run.items {
            told.note(&run.room, run.epoch.as_deref(), (*offset, id), *place);
        }
    }
    for (place, record) in records.iter().enumerate() {
        if let Event::PageAnswered { room, after, answer: Ok(page) } = &record.event {
            told.page(facts, room, *after, page, place);
        }
    }
    told.epochs_change_only_for_a_reason(facts, records.len());
    told.answers_are_true(facts);
    let audits = audits(records, facts.quiet);
    told.is_lasting(facts, &audits);
    told.members_have_all(facts, runs, &audits);
}

/// What was told of the rooms' logs.
struct Told<'a, 'v> {
    logs: HashMap<(&'a str, &'a str), Log<'a>>,
    /// A message is stored once, so it has one offset, in whatever epoch.
    offsets: HashMap<&'a str, (u64, usize)>,
    violations: &'v mut Vec<Violation>,
}

impl<'a> Told<'a, '_> {
    fn violation(&mut self, rule: &'static str, says: String, records: Vec<usize>) {
        self.violations.push(Violation { rule, says, records });
    }

    fn note(
        &mut self,
        room: &'a str,
        epoch: Option<&'a str>,
        (offset, id): (u64, &'a str),
        place: usize,
    ) {
        let (known, at) = *self.offsets.entry(id).or_insert((offset, place));
        if known != offset {
            let says = format!("{id} is at {known} and at {offset} of {room}");
            self.violation("order", says, vec![at, place]);
        }
        let Some(epoch) = epoch else { return };
        let log = self.logs.entry((room, epoch)).or_default();
        let (other, at) = *log.entry(offset).or_insert((id, place));
        if other != id {
            let says = format!("at {offset} of {room} in {epoch} are {other} and {id}");
            self.violation("order", says, vec![at, place]);
        }
    }

    fn page(&mut self, facts: &Facts, room: &'a str, after: u64, page: &'a Page, place: usize) {
        let mut expected = after + 1;
        for (offset, id) in &page.items {
            let skips =
                *offset != expected && (expected != after + 1 || !facts.epochs_may_change(place));
            if skips {
                let says = format!(
                    "a page of {room} after {after} has {offset} where {expected} should be"
                );
                self.violation("gap", says, vec![place]);
            }
            expected = offset + 1;
            self.note(room, Some(&page.epoch), (*offset, id), place);
        }
    }

    fn epochs_change_only_for_a_reason(&mut self, facts: &Facts, end: usize) {
        if facts.epochs_may_change(end) {
            return;
        }
        let mut epochs = HashMap::<&str, (&str, usize)>::new();
        let first = |log: &Log<'_>| log.values().map(|(_, place)| *place).min().unwrap_or(0);
        let told = self.logs.iter().map(|((room, epoch), log)| (*room, *epoch, first(log)));
        for (room, epoch, place) in told.collect::<Vec<_>>() {
            let (known, at) = *epochs.entry(room).or_insert((epoch, place));
            if known != epoch {
                let says =
                    format!("{room} has the epochs {known} and {epoch}, and nothing was lost");
                self.violation("epoch", says, vec![at, place]);
            }
        }
    }

    fn answers_are_true(&mut self, facts: &'a Facts) {
        for (id, sent) in &facts.sent {
            let Some(&(offset, seen)) = self.offsets.get(id.as_str()) else { continue };
            match &sent.answer {
                Some((place, Ok(told))) if *told != offset => {
                    let says = format!(
                        "{id} is acknowledged at {told} of {} and came at {offset}",
                        sent.room
                    );
                    self.violation("order", says, vec![*place, seen]);
                }
                Some((place, Err(code))) if !facts.terms.refusals_are_doubtful => {
                    let says =
                        format!("{id} was refused ({code}) and came at {offset} of {}", sent.room);
                    self.violation("refused", says, vec![*place, seen]);
                }
                _ => {}
            }
        }
    }

    /// What was acknowledged or delivered is stored.
    fn is_lasting(&mut self, facts: &'a Facts, audits: &HashMap<&str, Audit<'_>>) {
        let rooms = facts.sent.values().map(|sent| sent.room.as_str()).collect::<HashSet<_>>();
        for room in rooms {
            if !audits.get(room).is_some_and(|audit| audit.complete) {
                self.violation(
                    "lost",
                    format!("the log of {room} could not be read at the end"),
                    Vec::new(),
                );
                return;
            }
        }
        for (id, sent) in &facts.sent {
            let acknowledged = match &sent.answer {
                Some((place, Ok(offset))) => Some((*offset, *place)),
                _ => None,
            };
            let seen = self.offsets.get(id.as_str()).copied();
            let Some((offset, place)) = acknowledged.or(seen) else { continue };
            let audit = &audits[sent.room.as_str()];
            let found = audit.ids.get(&offset).copied();
            if facts.must_last(sent.asked) && found != Some(id) {
                let how = if acknowledged.is_some() { "acknowledged" } else { "delivered" };
                let says = format!(
                    "{id} was {how} at {offset} of {}; at the end {found:?} is there",
                    sent.room
                );
                self.violation("lost", says, vec![sent.asked, place, audit.place]);
            }
        }
    }

    /// Who is a member at the end has got everything up to the end.
    fn members_have_all(&mut self, facts: &Facts, runs: &[Run], audits: &HashMap<&str, Audit<'_>>) {
        for run in runs {
            let (Some(connection), Some(audit)) = (run.open, audits.get(run.room.as_str())) else {
                continue;
            };
            let is_same = run.epoch.as_deref().is_none_or(|epoch| epoch == audit.epoch);
            let is_at_head = run.last == audit.head
                || run.last < audit.head
                    && facts.explains(connection, &run.room, run.last + 1, audit.head);
            let has_all = is_same && is_at_head;
            if !has_all && !facts.terms.expires {
                let says = format!(
                    "at the end connection {connection} has {} of {:?} of {}, which is at {} of {}",
                    run.last, run.epoch, run.room, audit.head, audit.epoch
                );
                self.violation("lost", says, vec![run.place, audit.place]);
            }
        }
    }
}

/// The pages that were read when all was quiet: the rooms' logs as they are then.
fn audits(records: &[Record], quiet: usize) -> HashMap<&str, Audit<'_>> {
    let mut audits = HashMap::<&str, Audit<'_>>::new();
    for (place, record) in records.iter().enumerate().skip(quiet) {
        let Event::PageAnswered { room, answer: Ok(page), .. } = &record.event else { continue };
        let begun =
            Audit { epoch: &page.epoch, head: 0, complete: false, ids: BTreeMap::new(), place };
        let audit = audits.entry(room).or_insert(begun);
        if audit.epoch != page.epoch {
            continue;
        }
        audit.ids.extend(page.items.iter().map(|(offset, id)| (*offset, id.as_str())));
        audit.head = audit.head.max(page.offset);
        audit.complete |= page.complete;
        audit.place = place;
    }
    audits
}
