-- Who is charged for a room (NULL: a backend, or nobody knows), and a time not later than its last use, for which the least
-- recently used one is looked up: what has been used since is found out then. An emptied room has 0: it makes way first.
ALTER TABLE rooms ADD COLUMN creator TEXT;
ALTER TABLE rooms ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
UPDATE rooms SET used = coalesce((SELECT at FROM messages WHERE room = rooms.id ORDER BY offset DESC LIMIT 1), 0);
CREATE INDEX rooms_by_use ON rooms (used);
CREATE INDEX rooms_by_creator ON rooms (creator, used) WHERE creator IS NOT NULL;

-- How many rooms each has begun that are stored.
CREATE TABLE creators (
    creator TEXT    PRIMARY KEY,
    rooms   INTEGER NOT NULL
) WITHOUT ROWID;

-- Forgotten rooms whose messages are still to be deleted. No new room gets their number.
CREATE TABLE dropped (
    room INTEGER PRIMARY KEY
);

-- What a queued message holds, so that a sender's can be summed up.
ALTER TABLE queue ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
UPDATE queue SET size = octet_length(id) + octet_length(event) + octet_length(json) + coalesce(octet_length(attachments), 0);
CREATE INDEX queue_by_sender ON queue (sender, at, size) WHERE sender IS NOT NULL;
