//! A Redis that keeps everything until something is done to it.

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, TcpListener},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use redis::{Cmd, FromRedisValue, RedisResult, cmd};
use tempfile::TempDir;

pub struct Redis {
    /// Where the nodes find it, whichever process that is.
    port: u16,
    process: Process,
}

/// One redis-server; ends with this value.
struct Process {
    directory: TempDir,
    child: Child,
}

impl Redis {
    pub fn start() -> Self {
        let port = free_port();
        Self { port, process: Process::start(TempDir::new().unwrap(), port, &[]) }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Sends a command and returns its answer.
    pub fn ask<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        ask(self.port, command)
    }

    /// Kills it with `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again: with what it had, or with nothing.
    pub fn restart(&mut self, keeps: bool) {
        self.process.kill();
        let directory = TempDir::new().unwrap();
        let directory = if keeps {
            std::mem::replace(&mut self.process.directory, directory)
        } else {
            directory
        };
        self.process = Process::start(directory, self.port, &[]);
    }

    /// Lets it stand still, or go on.
    pub fn signal(&self, name: &str) {
        signal(self.process.child.id(), name);
    }

    /// A replica that has all of it and hears no more: it will be behind.
    pub fn cut_off_replica(&self) -> Replica {
        let port = free_port();
        let master = ["--replicaof", "127.0.0.1", &self.port.to_string()];
        let process = Process::start(TempDir::new().unwrap(), port, &master);
        let begun = Instant::now();
        while !ask::<String>(port, cmd("INFO").arg("replication"))
            .is_ok_and(|info| info.contains("master_link_status:up"))
        {
            assert!(begun.elapsed() < Duration::from_secs(20), "the replica does not get in sync");
            std::thread::sleep(Duration::from_millis(5));
        }
        ask::<()>(port, cmd("REPLICAOF").arg("NO").arg("ONE")).unwrap();
        Replica { port, process }
    }

    /// Kills it, and lets the replica take its place.
    pub fn fail_over(&mut self, replica: Replica) {
        self.process.kill();
        ask::<()>(replica.port, cmd("CONFIG").arg("SET").arg("port").arg(self.port)).unwrap();
        self.process = replica.process;
    }
}

/// A replica that is about to replace its master.
pub struct Replica {
    port: u16,
    process: Process,
}

impl Process {
    fn start(directory: TempDir, port: u16, more: &[&str]) -> Self {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
        command.args([
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
            "--repl-diskless-sync-delay",
            "0",
        ]);
        command.args(more).arg("--dir").arg(directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child =
            command.spawn().expect("redis-server must be installed (./test.sh rust installs it)");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.any(|line| line.unwrap().contains("Ready to accept"));
        assert!(ready, "redis-server did not start");
        // It goes on writing, and must not wait for a reader.
        std::thread::spawn(move || lines.count());
        Self { directory, child }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to a process.
pub fn signal(id: u32, name: &str) {
    assert!(Command::new("kill").args([name, &id.to_string()]).status().unwrap().success());
}

fn ask<T: FromRedisValue>(port: u16, command: &Cmd) -> RedisResult<T> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/0"))?;
    command.query(&mut client.get_connection_with_timeout(Duration::from_secs(5))?)
}

fn free_port() -> u16 {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    free.local_addr().unwrap().port()
}
