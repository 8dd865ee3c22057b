//! A redis-server for one test, on a socket in a directory of its own.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use parking_lot::{Mutex, RwLock};
use redis::{Client, Commands, Connection, Value};
use tempfile::TempDir;

use crate::store::{Committed, RedisSettings, codec, room_of_channel};

/// Held while a process is started: for a moment the child has this process's files and their locks.
pub static SPAWNING: RwLock<()> = RwLock::new(());

/// A server that is killed when this is dropped.
pub struct RedisServer {
    dir: TempDir,
    child: Mutex<Child>,
    arguments: &'static [&'static str],
}

impl RedisServer {
    /// Starts a server that keeps nothing on disk unless it is told to.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with further settings.
    pub fn start_with(arguments: &'static [&'static str]) -> Self {
        let dir = TempDir::new().unwrap();
        let child = Mutex::new(spawn(dir.path(), arguments));
        Self { dir, child, arguments }
    }

    /// Kills the server at once, as a crash would.
    pub fn kill(&self) {
        let mut child = self.child.lock();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts the server again after [`RedisServer::kill`] or a SHUTDOWN, with what it had saved.
    pub fn start_again(&self) {
        let mut child = self.child.lock();
        child.wait().unwrap();
        *child = spawn(self.dir.path(), self.arguments);
    }

    pub fn client(&self) -> Client {
        Client::open(format!("redis+unix://{}", socket(self.dir.path()).display())).unwrap()
    }

    pub fn settings(&self, prefix: &str) -> RedisSettings {
        RedisSettings {
            primaries: vec![self.client().into()],
            replicas: 0,
            prefix: prefix.into(),
            node: "test".into(),
        }
    }

    pub fn connection(&self) -> Connection {
        self.client().get_connection().unwrap()
    }

    /// Sends a command, written as it would be typed.
    pub fn command(&self, command: &str) -> Value {
        let mut words = command.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        command.arg(words.collect::<Vec<_>>());
        command.query(&mut self.connection()).unwrap()
    }

    /// Hands every message that is committed under `prefix` to `tail`, until the server ends.
    pub fn subscribe(&self, prefix: &str, mut tail: impl FnMut(&[Committed]) + Send + 'static) {
        let prefix = prefix.to_owned();
        let mut connection = self.connection();
        let (ready, subscribed) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut subscription = connection.as_pubsub();
            subscription.psubscribe(format!("{prefix}:room:*")).unwrap();
            ready.send(()).unwrap();
            while let Ok(message) = subscription.get_message() {
                let room = room_of_channel(&prefix, message.get_channel_name()).unwrap();
                let committed = codec::decode_committed(room, message.get_payload_bytes());
                tail(&[committed.unwrap().committed]);
            }
        });
        subscribed.recv().unwrap();
    }

    /// How many items of a kind lie under `prefix`.
    pub fn rows(&self, prefix: &str, kind: &str) -> u64 {
        let mut connection = self.connection();
        let (pattern, count) = match kind {
            "messages" => ("stream:*", "XLEN"),
            "receipts" => ("receipts:*", "HLEN"),
            "queue" => ("queue:*", "XLEN"),
            "rooms" => ("log:rooms", "ZCARD"),
            "idempotency_keys" => ("once:*", "EXISTS"),
            "key_lists" => ("keys:*", "EXISTS"),
            other => panic!("nothing is called {other}"),
        };
        let keys: Vec<String> = connection.keys(format!("{prefix}:{pattern}")).unwrap();
        let count_of = |key| redis::cmd(count).arg(key).query::<u64>(&mut connection).unwrap();
        keys.into_iter().map(count_of).sum()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        // It may have ended already.
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("redis.sock")
}

fn spawn(dir: &Path, arguments: &[&str]) -> Child {
    let spawning = SPAWNING.write();
    let mut child = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--appendonly", "no", "--dir"])
        .arg(dir)
        .arg("--unixsocket")
        .arg(socket(dir))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-server must be installed for the tests (./test.sh rust installs it)");
    drop(spawning);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.any(|line| line.unwrap().to_ascii_lowercase().contains("ready to accept"));
    assert!(ready, "redis-server did not start");
    // The server keeps writing and must not wait for a reader.
    std::thread::spawn(move || lines.count());
    child
}
