-- What epochs are made from, and whether the file can have lost acknowledged commits (see epoch.rs, schema.rs).
CREATE TABLE meta (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    seed    INTEGER NOT NULL,
    salt    INTEGER NOT NULL,
    boot    TEXT,
    settled INTEGER NOT NULL
);

-- A room has a row from its first message until it is forgotten. `head` and `emptied_at` date from when its last message was trimmed;
-- while it has messages, its head is theirs, so that an append writes no row here.
CREATE TABLE rooms (
    id         INTEGER PRIMARY KEY,
    namespace  TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    epoch      INTEGER NOT NULL,
    head       INTEGER NOT NULL,
    emptied_at INTEGER NOT NULL,
    UNIQUE (namespace, name)
);

-- How often a room of each bucket was forgotten.
CREATE TABLE forgotten (
    bucket     INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL
);

-- The offsets of one room are consecutive. `at` is the message's time stamp in milliseconds.
CREATE TABLE messages (
    room        INTEGER NOT NULL,
    offset      INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    id_hash     INTEGER NOT NULL,
    id          TEXT    NOT NULL,
    event       TEXT    NOT NULL,
    json        TEXT    NOT NULL,
    attachments BLOB,
    PRIMARY KEY (room, offset)
) WITHOUT ROWID;
CREATE INDEX messages_by_id ON messages (room, id_hash, offset);

-- `id` is the order of recording.
CREATE TABLE receipts (
    id     INTEGER PRIMARY KEY,
    room   INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    user   TEXT    NOT NULL,
    at     INTEGER NOT NULL,
    UNIQUE (room, offset, user)
);

-- AUTOINCREMENT: a place is never used again, so that a late confirmation cannot remove what came after it.
CREATE TABLE queue (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    user        TEXT    NOT NULL,
    sender      TEXT,
    at          INTEGER NOT NULL,
    id          TEXT    NOT NULL,
    event       TEXT    NOT NULL,
    json        TEXT    NOT NULL,
    attachments BLOB
);
CREATE INDEX queue_by_user ON queue (user, at, sender);
