//! What is queued for users that are offline: it comes at least once, each sender's in its order.

use std::collections::{HashMap, HashSet};

use super::{Violation, facts::Facts};
use crate::history::{ClientNo, ConnectionNo, Event, Record};

struct Private<'a> {
    sender: ClientNo,
    to: &'a str,
    asked: usize,
    /// Where it was acknowledged to be queued.
    queued: Option<usize>,
}

/// What the records say of private messages.
struct Said<'a> {
    messages: HashMap<&'a str, Private<'a>>,
    /// The ids that came to each user.
    received: HashMap<&'a str, HashSet<&'a str>>,
    /// Place, connection, user and id of each that came.
    came: Vec<(usize, ConnectionNo, &'a str, &'a str)>,
}

impl<'a> Said<'a> {
    fn of(records: &'a [Record]) -> Self {
        let mut said =
            Self { messages: HashMap::new(), received: HashMap::new(), came: Vec::new() };
        let mut users = HashMap::<ConnectionNo, &str>::new();
        for (place, record) in records.iter().enumerate() {
            let Some((sender, connection)) = record.who else { continue };
            match &record.event {
                Event::Connected { user, .. } => drop(users.insert(connection, user)),
                Event::PrivateAsked { id, to } => {
                    said.messages.insert(id, Private { sender, to, asked: place, queued: None });
                }
                Event::PrivateAnswered { id, answer: Ok(true) } => {
                    if let Some(message) = said.messages.get_mut(id.as_str()) {
                        message.queued = Some(place);
                    }
                }
                Event::PrivateReceived { id } => {
                    let user = users.get(&connection).copied().unwrap_or_default();
                    said.received.entry(user).or_default().insert(id);
                    said.came.push((place, connection, user, id));
                }
                _ => {}
            }
        }
        said
    }

    /// What was queued, must last and has not come: ids, and where they were queued.
    fn missing<'s>(
        &'s self,
        facts: &'s Facts,
    ) -> impl Iterator<Item = (&'a str, &'s Private<'a>, usize)> {
        self.messages.iter().filter_map(|(id, message)| {
            let has_come = self.received.get(message.to).is_some_and(|ids| ids.contains(id));
            let is_owed = facts.must_last(message.asked) && !has_come;
            message.queued.filter(|_| is_owed).map(|queued| (*id, message, queued))
        })
    }
}

/// How many messages are owed to a user, and how many have come.
pub fn owed(records: &[Record], user: &str) -> (usize, usize) {
    let (said, facts) = (Said::of(records), Facts::of(records));
    let owed = said.missing(&facts).filter(|(_, message, _)| message.to == user).count();
    (owed, said.received.get(user).map_or(0, HashSet::len))
}

pub(super) fn check(records: &[Record], facts: &Facts, violations: &mut Vec<Violation>) {
    let said = Said::of(records);
    for (id, message, queued) in said.missing(facts) {
        let says = format!("{id} was queued for {} and never came", message.to);
        violations.push(Violation { rule: "queue", says, records: vec![message.asked, queued] });
    }
    order(&said.messages, &said.came, violations);
}

/// On each connection each sender's messages come, the first time, in the order in which they were sent.
fn order(
    messages: &HashMap<&str, Private<'_>>,
    came: &[(usize, ConnectionNo, &str, &str)],
    violations: &mut Vec<Violation>,
) {
    let mut newest = HashMap::<(ConnectionNo, ClientNo), (usize, usize)>::new();
    let mut seen = HashSet::new();
    for &(place, connection, user, id) in came {
        let Some(message) = messages.get(id) else { continue };
        if message.to != user {
            let says = format!("{id} is for {} and came to {user}", message.to);
            violations.push(Violation { rule: "queue", says, records: vec![message.asked, place] });
        }
        if message.queued.is_none() || !seen.insert((connection, id)) {
            continue;
        }
        let last = newest.entry((connection, message.sender)).or_insert((message.asked, place));
        if message.asked < last.0 {
            let says = format!("{id} came to {user} after one that was sent later");
            violations.push(Violation { rule: "queue", says, records: vec![last.1, place] });
        }
        *last = (*last).max((message.asked, place));
    }
}
