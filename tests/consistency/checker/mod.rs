//! Decides whether what a run has recorded may be: a function of the records, and of nothing else.
//!
//! | rule | says |
//! | --- | --- |
//! | `gap` | the offsets that a member gets are consecutive; only what it is left out of may be missing |
//! | `twice` | a member gets nothing again within an epoch, and nothing out of order |
//! | `epoch` | a member that goes on into another epoch gets that from its first message on; epochs change only where something was lost |
//! | `ack` | the offset that a join is answered with is the last that the member got before that answer |
//! | `recovery` | a recovery is whole, or says that it is not |
//! | `left out` | who is left out of a message does not get it live |
//! | `stranger` | who is no member gets nothing |
//! | `order` | all who get an epoch's messages get the same one at each offset |
//! | `lost` | what was acknowledged is in the log at the end, at its offset, and who stays has all of it |
//! | `refused` | what was refused was neither stored nor delivered |
//! | `queue` | what was queued for a user comes to it, in the order in which it was sent |

mod facts;
mod log;
mod queues;
mod streams;
#[cfg(test)]
mod tests;

use std::fmt;

pub use self::queues::owed;
use crate::history::Record;

/// Something that may not be.
#[derive(Debug, Clone)]
pub struct Violation {
    /// The rule that is broken.
    pub rule: &'static str,
    /// How.
    pub says: String,
    /// The records that show it, by their places.
    pub records: Vec<usize>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.rule, self.says)
    }
}

/// All that may not be in the records of a run that has come to its end.
pub fn check(records: &[Record]) -> Vec<Violation> {
    let facts = facts::Facts::of(records);
    let mut violations = Vec::new();
    let runs = streams::check(records, &facts, &mut violations);
    log::check(records, &facts, &runs, &mut violations);
    queues::check(records, &facts, &mut violations);
    violations.sort_by_key(|violation| violation.records.iter().copied().max());
    violations
}
