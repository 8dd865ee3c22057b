//! The event log (`EVENT_LOG`): one JSON object a line for connections, disconnections and refusals.
//!
//! A line says who, when, from where and why, and never what: no message, no token, no key. A separate thread
//! writes the lines from a bounded queue. The server never waits for it: lines that do not fit, because the
//! disk is slow or full, are dropped, counted, and reported by a line `{"type":"dropped","count":N}`. Anybody
//! can cause any number of refusals, so few lines a second are written of them; their `count` says how many
//! they stand for.

#[cfg(test)]
mod tests;
mod writer;

use std::{
    borrow::Cow,
    fmt,
    io::{self, Write},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    time::Instant,
};

use serde::Serialize;
use tokio_util::task::AbortOnDropHandle;

use self::writer::{Note, Target, Writer};
use crate::{
    config,
    limits::{Sampler, Sampling},
    protocol::{names::UserId, refusal::Code, timestamp::Timestamp},
};

/// How many lines may wait; some 200 bytes each.
const CAPACITY: usize = 10_000;

/// How much of an event's name is logged, in Unicode code points: it is the client's choice.
const MAX_EVENT: usize = 50;

/// How many refusals of one type and code are written in a second.
const SAMPLING: Sampling = Sampling { per_source: 5, total: 100 };

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A client has connected to a namespace.
    Connect,
    /// A client has gone, with the reason.
    Disconnect,
    /// An authentication failed.
    AuthFailure,
    /// A client's event, a connection or an HTTP request was refused, with the code.
    Refusal,
    /// A client was disconnected because it read too slowly.
    SlowConsumer,
    /// Lines are missing here: `count` of them.
    Dropped,
}

impl Kind {
    /// Whether anybody can cause any number of such lines.
    const fn is_sampled(self) -> bool {
        matches!(self, Self::AuthFailure | Self::Refusal | Self::SlowConsumer)
    }
}

/// What sampled lines are grouped by.
type Topic = (Kind, Option<Code>);

/// One line. Fields that are `None` are left out of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "each field is its own name on the line")]
pub struct Entry<'a> {
    pub time: Timestamp,
    pub r#type: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// `websocket` or `polling` for a client; `http` for a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<&'static str>,
    /// The event's name as the client gave it; truncated if long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Why, in words for a person; never the client's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'a, str>>,
    /// How many occurrences the line stands for, if more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

impl<'a> Entry<'a> {
    /// A line of this kind at this moment, without other fields.
    pub fn new(kind: Kind) -> Self {
        Self {
            time: Timestamp::now(),
            r#type: kind,
            client_id: None,
            user_id: None,
            namespace: None,
            address: None,
            transport: None,
            event: None,
            code: None,
            reason: None,
            count: None,
        }
    }

    /// With the name of an event.
    #[must_use]
    pub fn event(mut self, name: &'a str) -> Self {
        self.event = (!name.is_empty()).then(|| match name.char_indices().nth(MAX_EVENT) {
            None => Cow::Borrowed(name),
            Some((end, _)) => Cow::Owned(format!("{}…", &name[..end])),
        });
        self
    }

    /// This line, with its count of lines left out before; `None` if it is left out, too.
    fn sampled(self, sampler: &Sampler<Topic>) -> Option<Self> {
        if !self.r#type.is_sampled() {
            return Some(self);
        }
        let (topic, weight) = ((self.r#type, self.code), self.count.unwrap_or(1));
        let count = sampler.take(topic, self.address, weight, Instant::now())?;
        Some(Self { count: Some(count).filter(|count| *count > 1), ..self })
    }

    fn line(&self) -> String {
        let mut line = crate::protocol::payload::json_of(self).get().to_owned();
        line.push('\n');
        line
    }
}

/// The event log, or none; clones are handles to the same one.
#[derive(Clone, Default)]
pub struct EventLog(Option<Arc<Inner>>);

struct Inner {
    notes: SyncSender<Note>,
    counts: Arc<Counts>,
    sampler: Arc<Sampler<Topic>>,
    rotates: bool,
}

/// The numbers of lines written and dropped.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Lines written.
    pub written: AtomicU64,
    /// Lines dropped.
    pub dropped: AtomicU64,
    /// Lines dropped and not reported yet.
    pub unmentioned: AtomicU64,
}

impl Counts {
    fn drop_lines(&self, lines: u64) {
        self.dropped.fetch_add(lines, Relaxed);
        self.unmentioned.fetch_add(lines, Relaxed);
    }
}

impl fmt::Debug for EventLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "EventLog" } else { "EventLog(off)" })
    }
}

impl EventLog {
    /// Opens the log that `EVENT_LOG` names; a file is appended to.
    ///
    /// # Errors
    /// When the file cannot be opened, or the thread not started.
    pub fn open(target: Option<&config::EventLog>) -> io::Result<Self> {
        match target {
            None => Ok(Self(None)),
            Some(config::EventLog::Stdout) => Self::start(Target::Other(Box::new(io::stdout()))),
            Some(config::EventLog::File(path)) => Self::start(Target::file(path)?),
        }
    }

    /// A log that is written to `writer`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn to(writer: impl Write + Send + 'static) -> io::Result<Self> {
        Self::start(Target::Other(Box::new(writer)))
    }

    fn start(target: Target) -> io::Result<Self> {
        let (notes, waiting) = sync_channel(CAPACITY);
        let counts = Arc::new(Counts::default());
        let rotates = target.rotates();
        let sampler = Arc::new(Sampler::new(SAMPLING));
        let writer = Writer::new(waiting, target, counts.clone(), sampler.clone());
        std::thread::Builder::new().name("event-log".into()).spawn(move || writer.run())?;
        Ok(Self(Some(Arc::new(Inner { notes, counts, sampler, rotates }))))
    }

    /// Hands over a line; never waits. The line is made only if there is a log.
    pub fn write<'a>(&self, entry: impl FnOnce() -> Entry<'a>) {
        let Some(inner) = &self.0 else { return };
        let Some(entry) = entry().sampled(&inner.sampler) else { return };
        match inner.notes.try_send(Note::Line(entry.line())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                inner.counts.drop_lines(1);
            }
        }
    }

    /// Lines written and lines dropped, since the start.
    pub fn counts(&self) -> Option<(u64, u64)> {
        let counts = &self.0.as_ref()?.counts;
        Some((counts.written.load(Relaxed), counts.dropped.load(Relaxed)))
    }

    /// Reopens the file on every SIGHUP, as programs that rotate logs expect, until the handle is dropped.
    /// `None` if there is no file.
    ///
    /// # Errors
    /// When the signal cannot be listened for.
    pub fn reopen_on_hangup(&self) -> io::Result<Option<AbortOnDropHandle<()>>> {
        match &self.0 {
            Some(inner) if inner.rotates => watch_hangup(inner.notes.clone()),
            _ => Ok(None),
        }
    }

    /// Writes everything that waits, and these last entries; then ends the log. Later lines are dropped.
    pub async fn close<'e>(&self, last: impl IntoIterator<Item = Entry<'e>>) {
        let Some(inner) = &self.0 else { return };
        let last = last.into_iter().map(|entry| entry.line()).collect::<Vec<_>>();
        let notes = inner.notes.clone();
        let (closed, done) = tokio::sync::oneshot::channel();
        // Waiting is fine here: the server is stopping, under a deadline.
        let closing = tokio::task::spawn_blocking(move || {
            let notes_of_all = last.into_iter().map(Note::Line).chain([Note::Close(closed)]);
            for note in notes_of_all {
                if notes.send(note).is_err() {
                    break;
                }
            }
        });
        // A writer that is gone has dropped the sender, which ends the wait.
        let (_sent, _done) = (closing.await, done.await);
    }
}

#[cfg(unix)]
fn watch_hangup(notes: SyncSender<Note>) -> io::Result<Option<AbortOnDropHandle<()>>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangups = signal(SignalKind::hangup())?;
    let watch = tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            let notes = notes.clone();
            // The queue may be full just now; the reopening must not be dropped.
            let sent = tokio::task::spawn_blocking(move || notes.send(Note::Reopen)).await;
            if !matches!(sent, Ok(Ok(()))) {
                break;
            }
        }
    });
    Ok(Some(AbortOnDropHandle::new(watch)))
}

#[cfg(not(unix))]
#[allow(clippy::unnecessary_wraps, reason = "as on systems that have the signal")]
fn watch_hangup(_: SyncSender<Note>) -> io::Result<Option<AbortOnDropHandle<()>>> {
    Ok(None)
}
