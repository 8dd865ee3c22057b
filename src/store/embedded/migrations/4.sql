-- Webhooks that wait for the application's backend. Those of one stream (a hash) are delivered in the order of `seq`. Where the
-- outbox is full, the oldest that may be dropped makes way. A room message's `json` is the beginning of the body, and the rest its end.
CREATE TABLE webhooks (
    seq         INTEGER PRIMARY KEY,
    stream      INTEGER NOT NULL,
    droppable   INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    id          TEXT    NOT NULL,
    json        TEXT    NOT NULL,
    offset      INTEGER,
    epoch       INTEGER,
    data        TEXT,
    attachments BLOB
);
CREATE INDEX webhooks_by_stream ON webhooks (stream);
CREATE INDEX webhooks_droppable ON webhooks (droppable) WHERE droppable = 1;

-- Webhooks that were given up, and why; `seq` is the order of giving up.
CREATE TABLE failed_webhooks (
    seq         INTEGER PRIMARY KEY,
    stream      INTEGER NOT NULL,
    droppable   INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    id          TEXT    NOT NULL,
    json        TEXT    NOT NULL,
    offset      INTEGER,
    epoch       INTEGER,
    data        TEXT,
    attachments BLOB,
    failed_at   INTEGER NOT NULL,
    error       TEXT    NOT NULL
);

-- What the backend was told to hold: nodes (0), users (1), rooms (2; `place` is the namespace).
CREATE TABLE told (
    kind  INTEGER NOT NULL,
    place TEXT    NOT NULL,
    name  TEXT    NOT NULL,
    PRIMARY KEY (kind, place, name)
) WITHOUT ROWID;
