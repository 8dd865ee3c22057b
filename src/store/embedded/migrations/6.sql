-- Idempotency keys in the order of their use, each with the content that it belongs to. `answer` is NULL while the write is under
-- way; `number` is then for how many milliseconds it is claimed. `nth` counts the keys of one sender (NULL: a backend).
CREATE TABLE idempotency_keys (
    id      INTEGER PRIMARY KEY,
    key     BLOB    NOT NULL UNIQUE,
    content BLOB    NOT NULL,
    number  INTEGER NOT NULL,
    answer  TEXT,
    at      INTEGER NOT NULL,
    sender  TEXT,
    nth     INTEGER
);
CREATE INDEX idempotency_keys_by_sender ON idempotency_keys (sender, nth) WHERE sender IS NOT NULL;
