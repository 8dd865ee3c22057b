//! Leaves out log lines that come too often.

use std::{
    fmt,
    hash::{Hash, Hasher},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{
    Event, Level, Metadata,
    field::{Field, Visit},
};
use tracing_subscriber::{
    filter::LevelFilter,
    layer::{Context, Filter},
};

use crate::limits::{Sampler, Sampling};

/// How many lines of one place in the code are written in a second.
const SAMPLING: Sampling = Sampling { per_source: 2, total: 20 };

/// How often left-out lines are reported.
const ACCOUNT: Duration = Duration::from_secs(10);

/// A filter that lets few lines of each place in the code pass. Debug and trace lines all pass: they are
/// turned on to see everything.
#[derive(Debug, Clone)]
pub struct Sampled(Arc<Sampler<Place>>);

impl Default for Sampled {
    fn default() -> Self {
        Self(Arc::new(Sampler::new(SAMPLING)))
    }
}

impl Sampled {
    /// Reports left-out lines from time to time.
    pub async fn account(self) {
        loop {
            tokio::time::sleep(ACCOUNT).await;
            self.tell(Some(Instant::now()));
        }
    }

    /// Reports left-out lines that were not reported yet; at the end (`now` is `None`), all of them.
    pub fn tell(&self, now: Option<Instant>) {
        for (Place(place), left_out) in self.0.left_out(now) {
            let (module, line) = (place.target(), place.line());
            tracing::warn!(left_out, module, line, "lines were left out of the log");
        }
    }
}

impl<S> Filter<S> for Sampled {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let place = Place(event.metadata());
        if *place.0.level() > Level::INFO {
            return true;
        }
        let mut found = Address(None);
        event.record(&mut found);
        self.0.admit(place, found.0, Instant::now())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }
}

/// A place in the code that writes lines.
#[derive(Debug, Clone)]
struct Place(&'static Metadata<'static>);

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.0.callsite() == other.0.callsite()
    }
}

impl Eq for Place {}

impl Hash for Place {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.callsite().hash(state);
    }
}

/// The address that a line is about.
struct Address(Option<IpAddr>);

impl Visit for Address {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if matches!(field.name(), "address" | "peer") {
            let text = format!("{value:?}");
            let with_port = || text.parse().map(|address: SocketAddr| address.ip()).ok();
            self.0 = text.parse().ok().or_else(with_port);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use parking_lot::Mutex;
    use tracing_subscriber::{Layer, layer::SubscriberExt};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged by `work`, and what was left out.
    fn logged(work: impl FnOnce()) -> (String, String) {
        let (lines, sampled) = (Lines::default(), Sampled::default());
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false);
        let layer = layer.with_writer(move || writer.clone()).with_filter(sampled.clone());
        let text = || String::from_utf8(std::mem::take(&mut *lines.0.lock())).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            work();
            let work = text();
            sampled.tell(None);
            (work, text())
        })
    }

    fn warn(address: impl fmt::Display) {
        tracing::warn!(%address, "somebody knocks");
    }

    #[test]
    fn a_thousand_lines_because_of_one_address_are_few_and_counted() {
        let (lines, left_out) = logged(|| {
            for port in 0..1000 {
                warn(SocketAddr::new([192, 0, 2, 1].into(), port));
            }
            warn("192.0.2.2");
        });
        let count = |address: &str| lines.lines().filter(|line| line.contains(address)).count();
        // Seconds may pass on a busy machine.
        assert!((2..=20).contains(&count("192.0.2.1:")), "{lines}");
        assert_eq!(count("192.0.2.2"), 1, "{lines}");
        let wanted = format!("left_out={}", 1000 - count("192.0.2.1:"));
        assert!(left_out.contains(&wanted) && left_out.contains("telemetry"), "{left_out}");
    }

    #[test]
    fn other_places_and_debug_lines_are_not_left_out() {
        let (lines, _) = logged(|| {
            for number in 0..100 {
                tracing::info!(number, "many");
                tracing::debug!(number, "asked for");
            }
            tracing::error!("once");
        });
        assert!(lines.contains("once"));
        assert_eq!(lines.lines().filter(|line| line.contains("asked for")).count(), 100);
    }
}
