//! A redis-server of one test: to be killed, emptied, and slowed.

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, TcpListener},
    process::{Child, Command, Stdio},
};

use redis::{Connection, FromRedisValue};
use tempfile::TempDir;

/// A redis-server; ends with this value.
pub struct RedisServer {
    directory: TempDir,
    port: u16,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl RedisServer {
    /// One that forgets everything when it ends.
    pub fn start() -> Self {
        Self::begin("--appendonly no", &[])
    }

    /// One that keeps everything in a file, to the last command.
    pub fn persistent() -> Self {
        Self::begin("--appendonly yes", &[])
    }

    /// A node of a Redis Cluster, which knows no other yet; keeps nothing.
    pub fn in_cluster() -> Self {
        let bus = free_port().to_string();
        // One whose replica takes over does not stop the others meanwhile.
        let arguments = "--appendonly no --cluster-enabled yes --cluster-node-timeout 2000 \
             --cluster-replica-validity-factor 0 --cluster-require-full-coverage no \
             --repl-diskless-sync-delay 0";
        Self::begin(arguments, &["--cluster-port", &bus])
    }

    fn begin(arguments: &str, more: &[&str]) -> Self {
        let port = free_port();
        let arguments = arguments.split_whitespace().chain(more.iter().copied());
        let arguments = arguments.map(str::to_owned).collect();
        let directory = TempDir::new().unwrap();
        let mut server = Self { directory, port, arguments, child: None };
        server.restart();
        server
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops it in order, as a supervisor does.
    pub fn stop(&mut self) {
        self.signal("-TERM");
        let ended = self.child.take().unwrap().wait().unwrap();
        assert!(ended.success(), "redis-server ended with {ended}");
    }

    /// Lets it stand still: connections stay, and nothing is answered.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// Starts it again, on the same port; waits until it serves.
    pub fn restart(&mut self) {
        self.kill();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", ""]);
        command.args(&self.arguments);
        command.args(["--appendfsync", "always", "--dir"]).arg(self.directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect(
            "redis-server must be installed for these tests (./test.sh cluster installs it)",
        );
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.any(|line| line.unwrap().contains("Ready to accept"));
        assert!(ready, "redis-server did not start");
        // It goes on writing, and must not wait for a reader.
        std::thread::spawn(move || lines.count());
        self.child = Some(child);
    }

    /// Lets it meet another node of its Redis Cluster.
    pub fn meet(&self, other: &Self) {
        let bus = other.arguments.last().unwrap();
        self.command::<()>(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", other.port));
    }

    /// Sends a command given as it would be typed, and returns its answer.
    pub fn command<T: FromRedisValue>(&self, words: &str) -> T {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        command.arg(words.collect::<Vec<_>>());
        command.query(&mut self.connection()).unwrap()
    }

    fn connection(&self) -> Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
