//! The thread that writes the event log.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{Counts, Entry, Kind, Topic};
use crate::limits::Sampler;

/// How much is written at once, in bytes.
const BATCH: usize = 64_000;

/// How long refusals that were left out wait for a line that reports them, before they get their own.
const ACCOUNT: Duration = Duration::from_secs(1);

/// The thread's instructions, done in order.
pub(super) enum Note {
    /// Write this line.
    Line(String),
    /// Reopen the file.
    Reopen,
    /// Write what came before, end, and confirm.
    Close(oneshot::Sender<()>),
}

/// Where the lines go.
pub(super) enum Target {
    /// To the end of a file, which can be reopened.
    File(PathBuf, File),
    /// To a writer that cannot be reopened.
    Other(Box<dyn Write + Send>),
}

impl Target {
    pub(super) fn file(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Self::File(path.to_owned(), file))
    }

    pub(super) fn rotates(&self) -> bool {
        matches!(self, Self::File(..))
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        match self {
            Self::File(_, file) => file.write_all(text),
            Self::Other(writer) => writer.write_all(text).and_then(|()| writer.flush()),
        }
    }
}

pub(super) struct Writer {
    notes: Receiver<Note>,
    target: Target,
    counts: Arc<Counts>,
    sampler: Arc<Sampler<Topic>>,
    batch: String,
    lines: u64,
    /// The last write failed, perhaps in the middle of a line.
    torn: bool,
}

impl Writer {
    pub(super) fn new(
        notes: Receiver<Note>,
        target: Target,
        counts: Arc<Counts>,
        sampler: Arc<Sampler<Topic>>,
    ) -> Self {
        Self { notes, target, counts, sampler, batch: String::new(), lines: 0, torn: false }
    }

    /// Writes until it is told to end, or all senders are gone.
    pub(super) fn run(mut self) {
        loop {
            let mut next = match self.notes.recv_timeout(ACCOUNT) {
                Ok(note) => Ok(note),
                Err(RecvTimeoutError::Timeout) => Err(TryRecvError::Empty),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // Whatever waits goes out in one write.
            loop {
                match next {
                    Ok(Note::Line(line)) => {
                        self.batch.push_str(&line);
                        self.lines += 1;
                        if self.batch.len() >= BATCH {
                            self.write();
                        }
                    }
                    Ok(Note::Reopen) => {
                        self.write();
                        self.reopen();
                    }
                    Ok(Note::Close(closed)) => {
                        self.account(None);
                        self.write();
                        // From here on lines are refused, and so counted, instead of accepted and lost.
                        drop(self.notes);
                        // Nobody waits any more after the shutdown grace.
                        let _ = closed.send(());
                        return;
                    }
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
                next = self.notes.try_recv();
            }
            self.account(Some(Instant::now()));
            self.write();
        }
    }

    /// Adds lines for the refusals that no other line has reported; at the end (`now` is `None`), for all of
    /// them.
    fn account(&mut self, now: Option<Instant>) {
        for ((kind, code), count) in self.sampler.left_out(now) {
            self.batch.push_str(&Entry { code, count: Some(count), ..Entry::new(kind) }.line());
            self.lines += 1;
        }
    }

    fn write(&mut self) {
        let missing = self.counts.unmentioned.swap(0, Relaxed);
        if self.batch.is_empty() && missing == 0 {
            return;
        }
        let mut text = String::new();
        if self.torn {
            text.push('\n');
        }
        if missing > 0 {
            text.push_str(&Entry { count: Some(missing), ..Entry::new(Kind::Dropped) }.line());
        }
        text.push_str(&self.batch);
        let lines = std::mem::take(&mut self.lines);
        self.batch.clear();
        match self.target.write(text.as_bytes()) {
            Ok(()) => {
                self.counts.written.fetch_add(lines, Relaxed);
                if std::mem::take(&mut self.torn) {
                    tracing::info!("the event log can be written again");
                }
            }
            Err(error) => {
                self.counts.unmentioned.fetch_add(missing, Relaxed);
                self.counts.drop_lines(lines);
                if !std::mem::replace(&mut self.torn, true) {
                    tracing::warn!(%error, "the event log cannot be written: its lines are dropped");
                }
            }
        }
    }

    fn reopen(&mut self) {
        let Target::File(path, _) = &self.target else { return };
        match Target::file(path) {
            Ok(target) => self.target = target,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "the event log cannot be reopened: continuing in the old file");
            }
        }
    }
}
