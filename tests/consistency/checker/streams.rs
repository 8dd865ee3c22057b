//! What one member gets on one membership: a stream of offsets, one by one.
//!
//! Messages do not name their epoch. A stream falls into *runs*: within one the offsets are consecutive, and
//! another one begins where an epoch does, at 1. A run's epoch is told by the acknowledgements of joins that
//! come while it lasts.

use std::collections::HashMap;

use super::{Violation, facts::Facts};
use crate::history::{ConnectionNo, Event, Joined, Position, Record};

/// Messages with consecutive offsets, all of one epoch.
#[derive(Default)]
pub(super) struct Run {
    pub room: String,
    /// `None` where nobody was told.
    pub epoch: Option<String>,
    /// Places, offsets and ids.
    pub items: Vec<(usize, u64, String)>,
    /// The newest offset that the member got, was left out of, or that came before it.
    pub last: u64,
    /// The membership that goes on at the end of the records.
    pub open: Option<ConnectionNo>,
    /// Where it was last heard of.
    pub place: usize,
}

/// A membership, from the wish to join on.
struct Stream {
    connection: ConnectionNo,
    room: String,
    from: Option<Position>,
    /// What came before the join was answered.
    early: Vec<(usize, u64, String)>,
    entered: bool,
    /// An answer to a join is being waited for.
    asking: bool,
    run: Run,
    /// The epochs of the runs before.
    before: Vec<String>,
}

/// Looks at all memberships; returns their runs.
pub(super) fn check(
    records: &[Record],
    facts: &Facts,
    violations: &mut Vec<Violation>,
) -> Vec<Run> {
    let mut streams = HashMap::<(ConnectionNo, &str), Stream>::new();
    let mut checking = Checking { facts, violations, runs: Vec::new() };
    for (place, record) in records.iter().enumerate() {
        let Some((_, connection)) = record.who else { continue };
        match &record.event {
            Event::JoinAsked { room, from } => {
                let stream = streams.entry((connection, room));
                stream.or_insert_with(|| Stream::new(connection, room, from.clone())).asking = true;
            }
            Event::JoinAnswered { room, answer } => {
                let Some(stream) = streams.get_mut(&(connection, room.as_str())) else { continue };
                stream.asking = false;
                stream.run.place = place;
                match answer {
                    Ok(joined) if stream.entered => checking.asked_again(stream, place, joined),
                    Ok(joined) => checking.enter(stream, place, joined),
                    Err(_) if stream.entered => {}
                    Err(_) => drop(streams.remove(&(connection, room.as_str()))),
                }
            }
            Event::Received { room, offset, id } => {
                match streams.get_mut(&(connection, room.as_str())) {
                    Some(stream) => checking.receive(stream, (place, *offset, id.clone())),
                    None => checking.violation(
                        "stranger",
                        format!("connection {connection} is no member of {room} and got {id}"),
                        vec![place],
                    ),
                }
            }
            Event::LeaveAnswered { room, answer: Ok(()) } => {
                if let Some(stream) = streams.remove(&(connection, room.as_str())) {
                    checking.end(stream, false);
                }
            }
            Event::Ended { .. } => {
                let over = streams.extract_if(|(of, _), _| *of == connection);
                for (_, stream) in over.collect::<Vec<_>>() {
                    checking.end(stream, false);
                }
            }
            _ => {}
        }
    }
    for stream in streams.into_values() {
        checking.end(stream, true);
    }
    checking.runs
}

impl Stream {
    fn new(connection: ConnectionNo, room: &str, from: Option<Position>) -> Self {
        Self {
            connection,
            room: room.to_owned(),
            from,
            early: Vec::new(),
            entered: false,
            asking: true,
            run: Run { room: room.to_owned(), ..Run::default() },
            before: Vec::new(),
        }
    }

    /// The current run is over; another one begins, in another epoch.
    fn turn(&mut self) -> Run {
        self.before.extend(self.run.epoch.clone());
        self.split()
    }

    /// The current run is over; another one begins, in the same epoch or in another.
    fn split(&mut self) -> Run {
        let run = Run { room: self.room.clone(), place: self.run.place, ..Run::default() };
        std::mem::replace(&mut self.run, run)
    }
}

struct Checking<'a> {
    facts: &'a Facts,
    violations: &'a mut Vec<Violation>,
    runs: Vec<Run>,
}

impl Checking<'_> {
    fn violation(&mut self, rule: &'static str, says: String, records: Vec<usize>) {
        self.violations.push(Violation { rule, says, records });
    }

    fn receive(&mut self, stream: &mut Stream, item: (usize, u64, String)) {
        if !stream.entered {
            stream.early.push(item);
            return;
        }
        if !stream.asking {
            self.check_left_out(stream, &item);
        }
        self.step(stream, item);
    }

    fn check_left_out(&mut self, stream: &Stream, (place, offset, id): &(usize, u64, String)) {
        let sent = self.facts.sent.get(id);
        if let Some(sent) = sent.filter(|sent| sent.left_out == Some(stream.connection)) {
            let says = format!(
                "connection {} is left out of {id} (offset {offset}) and got it live",
                stream.connection
            );
            self.violation("left out", says, vec![sent.asked, *place]);
        }
    }

    /// The member gets the next message.
    fn step(&mut self, stream: &mut Stream, (place, offset, id): (usize, u64, String)) {
        let (connection, last) = (stream.connection, stream.run.last);
        stream.run.place = place;
        if offset <= last {
            let before = stream.run.items.last().map(|(place, ..)| *place);
            let records = before.into_iter().chain([place]).collect();
            if !self.facts.epochs_may_change(place) {
                let says = format!(
                    "connection {connection} got {id} at {offset} of {} after {last}",
                    stream.room
                );
                self.violation("twice", says, records);
            } else if offset > 1 && !self.facts.explains(connection, &stream.room, 1, offset - 1) {
                let says = format!(
                    "connection {connection} got {id} at {offset} of {} after {last}: neither goes it on nor does an epoch begin",
                    stream.room
                );
                self.violation("twice", says, records);
            }
            let run = stream.turn();
            self.runs.push(run);
        } else {
            let goes_on = self.facts.explains(connection, &stream.room, last + 1, offset - 1);
            if !goes_on {
                let before = stream.run.items.last().map(|(place, ..)| *place);
                let says = format!(
                    "connection {connection} got {id} at {offset} of {} after {last}",
                    stream.room
                );
                self.violation("gap", says, before.into_iter().chain([place]).collect());
            } else if self.may_be_anothers(stream, place, offset - 1) {
                let run = stream.split();
                self.runs.push(run);
            }
        }
        stream.run.last = offset;
        stream.run.items.push((place, offset, id));
    }

    /// Whether what the member gets after `offset` may be another epoch's although the offsets go on: it is left
    /// out of that epoch's whole beginning. What comes then does not tell the epoch of what came before.
    fn may_be_anothers(&self, stream: &Stream, place: usize, offset: u64) -> bool {
        !stream.run.items.is_empty()
            && self.facts.epochs_may_change(place)
            && self.facts.explains(stream.connection, &stream.room, 1, offset)
    }

    /// The join is answered: what came before the answer is a replay, or was said meanwhile.
    fn enter(&mut self, stream: &mut Stream, place: usize, joined: &Joined) {
        stream.entered = true;
        let early = std::mem::take(&mut stream.early);
        let mut replayed_to = 0;
        if let (Some(from), Some(true)) = (&stream.from, joined.recovered) {
            stream.run.last = from.offset;
            replayed_to = from.offset + joined.missed;
            let replayed = early.iter().filter(|(_, offset, _)| *offset <= replayed_to).count();
            let is_whole = replayed as u64 == joined.missed;
            if from.epoch.as_ref().is_some_and(|epoch| *epoch != joined.epoch) || !is_whole {
                let says = format!(
                    "connection {} recovered {} from {from:?} and is answered {joined:?}; {replayed} were replayed",
                    stream.connection, stream.room
                );
                self.violation("recovery", says, vec![place]);
            }
        } else {
            // Live messages, from wherever it entered on.
            let first = early.first().map(|(_, offset, _)| offset - 1);
            stream.run.last = first.unwrap_or(joined.offset);
        }
        for item in early {
            if item.1 > replayed_to {
                self.check_left_out(stream, &item);
            }
            self.step(stream, item);
        }
        self.check_ack(stream, place, joined);
        stream.run.last = stream.run.last.max(joined.offset);
        // A room without a message has no epoch that is sure to stay.
        stream.run.epoch = Some(joined.epoch.clone()).filter(|_| joined.offset > 0);
    }

    /// A member has asked once more where it is.
    fn asked_again(&mut self, stream: &mut Stream, place: usize, joined: &Joined) {
        let is_same = match &stream.run.epoch {
            Some(epoch) => *epoch == joined.epoch,
            // Nobody was told the epoch of what it got last: an answer that is behind that is another one's.
            None => joined.offset >= stream.run.last || !self.facts.epochs_may_change(place),
        };
        if is_same && (joined.offset > 0 || stream.run.last == 0) {
            self.check_ack(stream, place, joined);
            if stream.before.contains(&joined.epoch) {
                let says = format!(
                    "connection {} got the epoch {} of {} twice",
                    stream.connection, joined.epoch, stream.room
                );
                self.violation("twice", says, vec![place]);
            }
            let is_told = stream.run.epoch.is_some();
            if !is_told && self.may_be_anothers(stream, place, joined.offset) {
                let run = stream.split();
                self.runs.push(run);
            }
            // It may have been left out of all that came up to there.
            stream.run.last = stream.run.last.max(joined.offset);
            stream.run.epoch = Some(joined.epoch.clone()).filter(|_| joined.offset > 0);
            return;
        }
        let told = stream.run.epoch.clone();
        if joined.offset > 0
            && !self.facts.explains(stream.connection, &stream.room, 1, joined.offset)
        {
            let says = format!(
                "connection {} got {} of {} up to {} and is then told to be at {} of {}, whose beginning it never got",
                stream.connection,
                told.as_deref().unwrap_or("an unknown epoch"),
                stream.room,
                stream.run.last,
                joined.offset,
                joined.epoch
            );
            let before = stream.run.items.last().map(|(place, ..)| *place);
            self.violation("epoch", says, before.into_iter().chain([place]).collect());
        }
        let run = stream.turn();
        self.runs.push(run);
        stream.run.last = joined.offset;
        stream.run.epoch = Some(joined.epoch.clone()).filter(|_| joined.offset > 0);
    }

    /// The answer tells the last message that came before it.
    fn check_ack(&mut self, stream: &Stream, place: usize, joined: &Joined) {
        let (got, told) = (stream.run.last, joined.offset);
        let before = stream.run.items.last().map(|(place, ..)| *place);
        let records = before.into_iter().chain([place]).collect();
        let connection = stream.connection;
        if told < got {
            let says = format!(
                "connection {connection} is told to be at {told} of {} and has got {got}",
                stream.room
            );
            self.violation("ack", says, records);
        } else if told > got && !self.facts.explains(connection, &stream.room, got + 1, told) {
            let says = format!(
                "connection {connection} is told to be at {told} of {} and has got no more than {got}",
                stream.room
            );
            self.violation("ack", says, records);
        }
    }

    fn end(&mut self, mut stream: Stream, open: bool) {
        if !stream.entered {
            // Nobody was told where it begins.
            let early = std::mem::take(&mut stream.early);
            let Some((_, first, _)) = early.first() else { return };
            stream.run.last = first - 1;
            for item in early {
                self.step(&mut stream, item);
            }
            stream.run.epoch = None;
        }
        stream.run.open = Some(stream.connection).filter(|_| open);
        self.runs.push(stream.run);
    }
}
