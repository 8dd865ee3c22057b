-- Idempotency keys in the order of their use, without indexes: which key is in which row is held in memory (see keys.rs). `answer` is
-- NULL while the write is under way; `number` is then for how many milliseconds it is claimed. `sender` is NULL for a backend.
DROP INDEX idempotency_keys_by_sender;
ALTER TABLE idempotency_keys RENAME TO old_keys;
CREATE TABLE idempotency_keys (
    id      INTEGER PRIMARY KEY,
    key     BLOB    NOT NULL,
    content BLOB    NOT NULL,
    number  INTEGER NOT NULL,
    answer  TEXT,
    at      INTEGER NOT NULL,
    sender  TEXT
);
INSERT INTO idempotency_keys SELECT id, key, content, number, answer, at, sender FROM old_keys ORDER BY id;
DROP TABLE old_keys;
