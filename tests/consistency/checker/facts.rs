//! What the records say about the run as a whole.

use std::collections::{HashMap, HashSet};

use crate::history::{Answer, ConnectionNo, Event, Record, Terms};

/// A message that was sent to a room.
pub(super) struct Sent {
    pub asked: usize,
    pub room: String,
    pub left_out: Option<ConnectionNo>,
    pub answer: Option<(usize, Answer<u64>)>,
}

pub(super) struct Facts {
    pub terms: Terms,
    pub sent: HashMap<String, Sent>,
    /// The place from which on nothing disturbs any more; the end, where a run did not come to it.
    pub quiet: usize,
    /// Where the first fault began that loses something, and where the last one ended.
    losses: Option<(usize, usize)>,
    /// From where on epochs may be others: something is lost, or nobody can tell whether it is.
    others: Option<usize>,
    /// The offsets that a connection is left out of, by its room.
    left_out: HashMap<(ConnectionNo, String), HashSet<u64>>,
    /// Messages that a connection is left out of and of which nobody knows whether they were stored.
    doubtful: HashMap<(ConnectionNo, String), usize>,
}

impl Facts {
    pub fn of(records: &[Record]) -> Self {
        let mut facts = Self {
            terms: Terms { expires: false, refusals_are_doubtful: true },
            sent: HashMap::new(),
            quiet: records.len(),
            losses: None,
            others: None,
            left_out: HashMap::new(),
            doubtful: HashMap::new(),
        };
        let mut losing = HashSet::new();
        for (place, record) in records.iter().enumerate() {
            match &record.event {
                Event::Began(terms) => facts.terms = *terms,
                Event::SendAsked { id, room, left_out } => {
                    let (room, left_out) = (room.clone(), *left_out);
                    let sent = Sent { asked: place, room, left_out, answer: None };
                    facts.sent.insert(id.clone(), sent);
                }
                Event::SendAnswered { id, answer } => {
                    if let Some(sent) = facts.sent.get_mut(id) {
                        sent.answer = Some((place, answer.clone()));
                    }
                }
                Event::FaultBegan { what, loses: true } => {
                    losing.insert(what);
                    facts.others.get_or_insert(place);
                    facts.losses.get_or_insert((place, records.len()));
                }
                Event::FaultEnded { what } if losing.remove(what) => {
                    facts.losses = facts.losses.map(|(began, _)| (began, place));
                }
                Event::NobodyCanTell => {
                    facts.others.get_or_insert(place);
                }
                Event::Quiet => facts.quiet = place,
                _ => {}
            }
        }
        facts.note_left_out();
        facts
    }

    fn note_left_out(&mut self) {
        for sent in self.sent.values() {
            let Some(connection) = sent.left_out else { continue };
            let key = (connection, sent.room.clone());
            match &sent.answer {
                Some((_, Ok(offset))) => {
                    self.left_out.entry(key).or_default().insert(*offset);
                }
                Some((_, Err(_))) if !self.terms.refusals_are_doubtful => {}
                _ => *self.doubtful.entry(key).or_default() += 1,
            }
        }
    }

    /// Whether epochs may have changed by this place.
    pub fn epochs_may_change(&self, place: usize) -> bool {
        self.terms.expires || self.others.is_some_and(|others| others < place)
    }

    /// Whether what was asked for at this place and acknowledged must be there at the end.
    pub fn must_last(&self, asked: usize) -> bool {
        !self.terms.expires && self.losses.is_none_or(|(_, ended)| ended < asked)
    }

    /// Whether every offset from `first` up to `last` is of a message that the connection is left out of.
    pub fn explains(&self, connection: ConnectionNo, room: &str, first: u64, last: u64) -> bool {
        let key = (connection, room.to_owned());
        let known = self.left_out.get(&key);
        let unknown =
            (first..=last).filter(|offset| known.is_none_or(|known| !known.contains(offset)));
        unknown.count() <= self.doubtful.get(&key).copied().unwrap_or(0)
    }
}
