//! roomcast: arguments, configuration, telemetry, run until a signal.

use std::{io, process::ExitCode, sync::Arc, time::Duration};

use roomcast::{
    config::Config,
    server::{
        self,
        cli::{self, Cli, Command},
    },
    telemetry,
};
use tokio::sync::oneshot;

/// The exit code after a second signal: 128 + SIGINT, by the shells' convention.
const EXIT_INTERRUPTED: i32 = 130;

/// How long work that blocks a thread may go on after the server has stopped.
const LEFTOVERS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = Cli::of_process();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed("cannot start its threads", &error),
    };
    let code = runtime.block_on(run(&cli));
    runtime.shutdown_timeout(LEFTOVERS);
    code
}

async fn run(cli: &Cli) -> ExitCode {
    // These commands need no configuration, or only a part of it.
    match &cli.command {
        Some(Command::Health(args)) => return cli::health(cli, args).await,
        Some(Command::Completions(args)) => return cli::completions(args),
        // Its output is needed to write the configuration.
        Some(Command::HashPassword) => return cli::hash_password(),
        _ => {}
    }
    let config = match cli.load_config() {
        Ok(config) => config,
        Err(code) => return code,
    };
    match &cli.command {
        Some(Command::Token(args)) => cli::token(&config, args).await,
        Some(Command::Webhooks(args)) => cli::webhooks(&config, args).await,
        _ if cli.check_config => cli::check_config(&config),
        _ => serve(config).await,
    }
}

async fn serve(config: Config) -> ExitCode {
    let log = match telemetry::init(&config) {
        Ok(log) => log,
        Err(error) => return failed("cannot start its log", &error),
    };
    tokio::spawn(log.clone().account());
    // Registered before anything is bound, so that no signal is missed.
    let stop = match on_signal() {
        Ok(stop) => stop,
        Err(error) => return failed("cannot listen for signals", &error),
    };
    announce(&config);
    let server = match server::bind(Arc::new(config)).await {
        Ok(server) => server,
        Err(error) => return failed("cannot start", &error),
    };
    let stopped = server.run(async {
        // The sender lives in a task that ends only by sending.
        let _ = stop.await;
    });
    let stopped = stopped.await;
    log.tell(None);
    match stopped {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed("cannot go on", &error),
    }
}

/// Logs the start line with every setting, then the configuration's warnings.
fn announce(config: &Config) {
    let settings: Vec<_> = config
        .summary()
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = settings.join(" "), "starting");
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
}

/// Completes with the first SIGTERM or SIGINT. A second one ends the process at once.
fn on_signal() -> io::Result<oneshot::Receiver<()>> {
    let mut signals = Signals::new()?;
    let (stop, stopping) = oneshot::channel();
    tokio::spawn(async move {
        let name = signals.next().await;
        tracing::info!(signal = name, "stopping; a second signal stops at once");
        // Fails if the server has already stopped by itself.
        let _ = stop.send(());
        signals.next().await;
        std::process::exit(EXIT_INTERRUPTED);
    });
    Ok(stopping)
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next signal and returns its name.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn new() -> io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    /// Waits for the next signal and returns its name.
    async fn next(&mut self) -> &'static str {
        self.0.recv().await;
        "Ctrl-C"
    }
}

/// Prints to standard error why the server cannot run, down to the root cause.
fn failed(what: &str, error: &dyn std::error::Error) -> ExitCode {
    let mut line = format!("roomcast {what}: {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        // Some errors include their cause in their own text.
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = inner.source();
    }
    eprintln!("{line}");
    ExitCode::FAILURE
}
