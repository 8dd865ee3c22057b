//! The real binary as a process of its own: to be killed, and to be refused a start.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStdout, Command},
};

use super::Connecting;

/// How long a start, or the refusal of one, may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// A running server.
pub struct ServerProcess {
    child: Child,
    address: SocketAddr,
    /// Held, as the server writes its log here.
    log: tokio::task::JoinHandle<()>,
}

/// How the binary ended, and what it said.
#[derive(Debug, PartialEq)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Asserts that the configuration is valid and that a variable has this value.
    #[track_caller]
    pub fn has(&self, line: &str) {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert!(self.stdout.lines().any(|said| said == line), "no {line} in {self:?}");
    }

    /// What it printed, if it succeeded.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        &self.stdout
    }
}

/// The command that starts the server on a free port of this machine, with its store in this file
/// and nothing of this process's environment.
pub fn command(store: &Path) -> Command {
    // The library's own tests share this file and know no binary.
    match option_env!("CARGO_BIN_EXE_roomcast") {
        Some(binary) => wrapped(Command::new(binary), store),
        None => panic!("only an integration test can start the binary"),
    }
}

/// The same for a command that starts the server in the end: `"$@"` of a shell, such as.
pub fn wrapped(mut command: Command, store: &Path) -> Command {
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOST", "127.0.0.1")
        .env("PORT", "0")
        .env("STORE_URL", format!("sqlite:{}", store.display()))
        .env("LOG_FORMAT", "json")
        .env("RATE_LIMIT_EVENTS", "0")
        // No .env file of a developer's counts.
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Starts the server and waits until it listens.
pub async fn start(mut command: Command) -> ServerProcess {
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = tokio::time::timeout(DEADLINE, async {
        while let Some(line) = lines.next_line().await.unwrap() {
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if line["message"] == "listening" {
                return line["address"].as_str().unwrap().parse().unwrap();
            }
        }
        let mut error = String::new();
        child.stderr.take().unwrap().read_to_string(&mut error).await.unwrap();
        panic!("the server did not start: {error}");
    });
    let address = address.await.expect("the server does not listen");
    // Read on, so that the server never waits for its reader.
    let log = tokio::spawn(drain(lines));
    ServerProcess { child, address, log }
}

async fn drain(mut lines: tokio::io::Lines<BufReader<ChildStdout>>) {
    while let Ok(Some(_)) = lines.next_line().await {}
}

/// Starts a server that must refuse to: its exit code, and what it says on the standard error.
pub async fn refusal(mut command: Command) -> (Option<i32>, String) {
    let output = tokio::time::timeout(DEADLINE, command.output());
    let output = output.await.expect("it has started, or hangs").unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

impl ServerProcess {
    /// A client of `/` that is about to connect.
    pub fn connecting(&self) -> Connecting {
        Connecting::to(self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Sends it a signal, as `kill` names it.
    pub fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = std::process::Command::new("kill").args([name, &id]).status().unwrap();
        assert!(sent.success());
    }

    /// Whether it is over, whatever ended it.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Ends it as `kill -9` does, and waits until it is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
        self.log.await.unwrap();
    }

    /// Tells it to stop, as a supervisor does, and waits until it has: its exit code.
    pub async fn terminate(mut self) -> Option<i32> {
        self.signal("-TERM");
        let ended = tokio::time::timeout(DEADLINE, self.child.wait());
        let code = ended.await.expect("it does not end").unwrap().code();
        self.log.await.unwrap();
        code
    }
}
