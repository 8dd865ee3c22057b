//! What the backend was told to hold.

use rusqlite::{Connection, params};

use super::types::RoomKey;
use crate::{
    protocol::names::{RoomName, UserId},
    store::webhook::Fact,
};

/// Notes that a fact begins to hold, or ends.
pub(super) fn note(conn: &Connection, fact: &Fact, holds: bool) -> rusqlite::Result<()> {
    let (kind, place, name) = match fact {
        Fact::Node(node) => (0, "", node.as_str()),
        Fact::User(user) => (1, "", user.as_str()),
        Fact::Room(room) => (2, &*room.namespace, room.room.as_str()),
    };
    let statement = if holds {
        "INSERT OR IGNORE INTO told VALUES (?1, ?2, ?3)"
    } else {
        "DELETE FROM told WHERE kind = ?1 AND place = ?2 AND name = ?3"
    };
    conn.prepare_cached(statement)?.execute(params![kind, place, name])?;
    Ok(())
}

/// The facts that the backend was told to hold.
pub(super) fn facts(conn: &Connection) -> rusqlite::Result<Vec<Fact>> {
    let mut statement = conn.prepare("SELECT kind, place, name FROM told ORDER BY kind")?;
    let mut rows = statement.query([])?;
    let mut facts = Vec::new();
    while let Some(row) = rows.next()? {
        let name = row.get_ref(2)?.as_str()?;
        facts.extend(match row.get(0)? {
            0 => Some(Fact::Node(name.to_owned())),
            1 => UserId::parse(name).ok().map(Fact::User),
            _ => {
                let namespace = row.get_ref(1)?.as_str()?.into();
                RoomName::parse(name).ok().map(|room| Fact::Room(RoomKey { namespace, room }))
            }
        });
    }
    Ok(facts)
}
