-- The messages of all rooms in the order of their commits (see log.rs). `first` is the oldest message that the room had from then on,
-- `checksum` is of what the index is made from (upper half) and of the rest. A record is no longer the room's if it is older than the
-- room's oldest message, or if there is a copy of it in a later place; it stays until its space is taken back.
CREATE TABLE log (
    place       INTEGER PRIMARY KEY,
    room        INTEGER NOT NULL,
    offset      INTEGER NOT NULL,
    first       INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    checksum    INTEGER NOT NULL,
    id          TEXT    NOT NULL,
    event       TEXT    NOT NULL,
    left_out    BLOB,
    attachments BLOB,
    json        TEXT    NOT NULL
);

-- The room's oldest message, where it was trimmed without a new one being stored; and a checksum of what the index is made from (NULL:
-- a row of before).
ALTER TABLE rooms ADD COLUMN first INTEGER NOT NULL DEFAULT 1;
ALTER TABLE rooms ADD COLUMN checksum INTEGER;
UPDATE rooms SET head = coalesce((SELECT max(offset) FROM messages WHERE room = rooms.id), head);
UPDATE rooms SET first = coalesce((SELECT min(offset) FROM messages WHERE room = rooms.id), head + 1);

-- What is left to be moved (see migrate.rs).
DROP INDEX messages_by_id;
ALTER TABLE messages RENAME TO old_messages;

-- For people: with the rooms' names.
CREATE VIEW messages AS
SELECT log.place, rooms.namespace, rooms.name AS room, log.offset, datetime(log.at / 1000, 'unixepoch') AS at, log.id, log.event, log.json
FROM log JOIN rooms ON rooms.id = log.room
WHERE log.offset >= rooms.first;
