//! The thread that writes the event log.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{Receiver, TryRecvError},
    },
};

use tokio::sync::oneshot;

use super::{Counts, Entry, Kind};

/// How much is written at once, in bytes.
const BATCH: usize = 64_000;

/// What the thread is told, in this order.
pub(super) enum Note {
    /// Write this line.
    Line(String),
    /// Open the file anew.
    Reopen,
    /// Write what came before, end, and say so.
    Close(oneshot::Sender<()>),
}

/// Where the lines go.
pub(super) enum Target {
    /// To the end of a file, which can be opened anew.
    File(PathBuf, File),
    /// To something that is what it is.
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
    batch: String,
    lines: u64,
    /// The last write failed, perhaps in the middle of a line.
    torn: bool,
}

impl Writer {
    pub(super) fn new(notes: Receiver<Note>, target: Target, counts: Arc<Counts>) -> Self {
        Self { notes, target, counts, batch: String::new(), lines: 0, torn: false }
    }

    /// Writes until it is told to end, or nobody is left who could tell it anything.
    pub(super) fn run(mut self) {
        while let Ok(note) = self.notes.recv() {
            let mut next = Ok(note);
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
                        self.write();
                        // From here on lines are refused, and so counted, and not taken and forgotten.
                        drop(self.notes);
                        // Nobody waits any more where the grace was over.
                        let _ = closed.send(());
                        return;
                    }
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
                next = self.notes.try_recv();
            }
            self.write();
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
                tracing::warn!(%error, path = %path.display(), "the event log cannot be opened anew: the old file goes on");
            }
        }
    }
}
