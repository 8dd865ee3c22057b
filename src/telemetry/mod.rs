//! The log: what is written, and how.
//!
//! Clients can cause most lines, any number of times. So each log statement writes few lines a second, and
//! fewer for one address (the field `address` or `peer`); a line of its own says how many were left out.

pub mod event_log;
pub mod metrics;
mod sampled;

use std::io::{self, IsTerminal};

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, LevelFilter, filter_fn},
    fmt,
    layer::SubscriberExt,
    util::{SubscriberInitExt, TryInitError},
};

pub use self::sampled::Sampled;
use crate::config::{Config, LogFormat};

/// Starts the log on the standard output, for the whole process. Fails if there is one already. The returned
/// value reports what was left out.
pub fn init(config: &Config) -> Result<Sampled, TryInitError> {
    let colours = io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match config.log_format {
        LogFormat::Pretty => fmt::layer().with_ansi(colours).boxed(),
        LogFormat::Json => fmt::layer().json().flatten_event(true).boxed(),
    };
    // Without this hint the other filter's has no effect: every record, of the libraries too, would be built
    // and then thrown away.
    let hidden = filter_fn(hides_the_wire).with_max_level_hint(LevelFilter::TRACE);
    let sampled = Sampled::default();
    // Last, so that it counts only lines that would be written.
    let filter = filter(config).and(hidden).and(sampled.clone());
    tracing_subscriber::registry().with(lines.with_filter(filter)).try_init()?;
    Ok(sampled)
}

/// Whether a record may be logged at all. The websocket library logs every frame, tokens and private messages
/// among them, and no setting may enable that.
fn hides_the_wire(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO || !metadata.target().starts_with("tungstenite")
}

/// `RUST_LOG` as it stands; without it this crate at `LOG_LEVEL`, and the libraries at warnings at most.
fn filter(config: &Config) -> EnvFilter {
    let directives = config.rust_log.clone().unwrap_or_else(|| {
        let libraries = config.log_level.min(Level::WARN);
        format!("{libraries},{}={}", env!("CARGO_CRATE_NAME"), config.log_level)
    });
    EnvFilter::new(directives)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directives(config: &Config) -> Vec<String> {
        let mut directives: Vec<_> =
            filter(config).to_string().split(',').map(str::to_owned).collect();
        directives.sort();
        directives
    }

    #[test]
    fn libraries_say_no_more_than_warnings() {
        let config = Config { log_level: Level::TRACE, ..Config::default() };
        assert_eq!(directives(&config), ["roomcast=trace", "warn"]);
    }

    #[test]
    fn libraries_say_no_more_than_the_server() {
        let config = Config { log_level: Level::ERROR, ..Config::default() };
        assert_eq!(directives(&config), ["error", "roomcast=error"]);
    }

    #[test]
    fn rust_log_decides_alone() {
        let config = Config { rust_log: Some("hyper=debug".into()), ..Config::default() };
        assert_eq!(filter(&config).to_string(), "hyper=debug");
    }
}
