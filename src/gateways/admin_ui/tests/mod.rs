#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod login;
mod news;
mod redaction;
mod stats;
