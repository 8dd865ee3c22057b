-- Revoked tokens, each as JSON, until the time in milliseconds at which it is forgotten.
CREATE TABLE revocations (
    id         TEXT    PRIMARY KEY,
    expires_at INTEGER NOT NULL,
    json       TEXT    NOT NULL
) WITHOUT ROWID;
CREATE INDEX revocations_by_end ON revocations (expires_at);
