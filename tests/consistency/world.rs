//! The servers of a run, and what is done to them.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use redis::cmd;
use tempfile::TempDir;
use tokio::{process::Command, time::sleep};

use crate::{
    history::{ConnectionNo, Event, History},
    redis::{Redis, signal},
    schedule::{Fault, Plan, Topology},
    support::{
        SECRET,
        process::{self, ServerProcess},
    },
};

/// What libfaketime, which moves the nodes' clocks, may be called.
const FAKETIME: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// What the clients see of the servers.
pub struct Reach {
    /// Where each node listens, while it does.
    pub addresses: Mutex<Vec<SocketAddr>>,
    /// Each client's present connection: the server's name for it, and its number.
    pub present: Mutex<Vec<Option<(String, ConnectionNo)>>>,
    /// How many steps the clients have done.
    pub steps: AtomicUsize,
    connections: AtomicUsize,
    pub http: reqwest::Client,
}

impl Reach {
    /// A number for a new connection.
    pub fn number(&self) -> ConnectionNo {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    pub fn node_count(&self) -> usize {
        self.addresses.lock().len()
    }

    pub fn address(&self, node: usize) -> SocketAddr {
        self.addresses.lock()[node]
    }
}

/// The servers.
pub struct World {
    directory: TempDir,
    settings: Vec<(&'static str, &'static str)>,
    nodes: Vec<Option<ServerProcess>>,
    redis: Option<Redis>,
    pub reach: Arc<Reach>,
    history: Arc<History>,
}

impl World {
    pub async fn start(plan: &Plan, history: &Arc<History>) -> Self {
        let count = if plan.topology == Topology::Cluster { 3 } else { 1 };
        let redis = (plan.topology != Topology::Embedded).then(Redis::start);
        let clients = plan.clients.len() + plan.mailboxes.len() + 1;
        let reach = Reach {
            addresses: Mutex::default(),
            present: Mutex::new(vec![None; clients]),
            steps: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            http: reqwest::Client::builder()
                .no_proxy()
                .timeout(Duration::from_secs(6))
                .build()
                .unwrap(),
        };
        let mut world = Self {
            directory: TempDir::new().unwrap(),
            settings: plan.settings.clone(),
            nodes: Vec::new(),
            redis,
            reach: Arc::new(reach),
            history: history.clone(),
        };
        for node in 0..count {
            std::fs::write(world.clock(node), "+0").unwrap();
            let process = process::start(world.command(node)).await;
            world.reach.addresses.lock().push(process.address());
            world.nodes.push(Some(process));
        }
        world.ready().await;
        world
    }

    /// The file that tells a node how far its clock is ahead.
    fn clock(&self, node: usize) -> PathBuf {
        self.directory.path().join(format!("clock-{node}"))
    }

    fn command(&self, node: usize) -> Command {
        let binary = std::env::var("ROOMCAST_BIN")
            .unwrap_or_else(|_| env!("CARGO_BIN_EXE_roomcast").to_owned());
        // A write beyond the limit of a file's size is to fail, and not to end the process.
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; exec \"$0\"", &binary]);
        let mut command = process::wrapped(shell, &self.directory.path().join("roomcast.db"));
        if let Some(redis) = &self.redis {
            command.env_remove("STORE_URL").env("REDIS_URL", redis.url());
        }
        let faketime = FAKETIME.iter().find(|path| std::path::Path::new(path).exists());
        let faketime = faketime
            .expect("libfaketime must be installed (./test.sh rust installs the package faketime)");
        command
            .env("LD_PRELOAD", faketime)
            .env("FAKETIME_TIMESTAMP_FILE", self.clock(node))
            .env("FAKETIME_CACHE_DURATION", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let all = [
            ("JWT_SECRET", SECRET),
            ("NODE_ENV", "development"),
            ("LOG_LEVEL", "info"),
            ("HISTORY_SIZE", "1000000"),
            ("QUEUE_SIZE", "100000"),
            ("QUEUE_CONFIRM", "300ms"),
            ("PRESENCE_GRACE", "0"),
            ("PRESENCE_SCOPE", "off"),
            ("ANNOUNCE_CONNECTIONS", "false"),
            ("SHUTDOWN_GRACE", "2s"),
        ];
        command.envs(all.into_iter().chain(self.settings.iter().copied()));
        command
    }

    /// Waits until every node says that it is ready.
    pub async fn ready(&self) {
        let begun = Instant::now();
        for node in 0..self.nodes.len() {
            while !self.is_ready(node).await {
                assert!(begun.elapsed() < Duration::from_mins(1), "node {node} does not get ready");
                sleep(Duration::from_millis(10)).await;
            }
        }
    }

    async fn is_ready(&self, node: usize) -> bool {
        let url = format!("http://{}/health/ready", self.reach.address(node));
        self.reach.http.get(&url).send().await.is_ok_and(|answer| answer.status() == 200)
    }

    async fn ready_nodes(&self) -> Vec<bool> {
        join_all((0..self.nodes.len()).map(|node| self.is_ready(node))).await
    }

    /// Does it, and undoes it.
    pub async fn suffer(&mut self, fault: Fault) {
        let (what, loses) = (format!("{fault:?}"), fault.loses());
        self.history.note(None, Event::FaultBegan { what: what.clone(), loses });
        let may_know_nothing = match fault {
            Fault::KillNode(_) | Fault::RestartNode(_) => !self.ready_nodes().await.contains(&true),
            Fault::KillRedis(_) => self.ready_nodes().await.contains(&false),
            _ => false,
        };
        if self.redis.is_some() && may_know_nothing {
            self.history.note(None, Event::NobodyCanTell);
        }
        match fault {
            Fault::KillNode(node) => self.replace(node, true).await,
            Fault::RestartNode(node) => self.replace(node, false).await,
            Fault::StopNode(node, time) => {
                let id = self.nodes[node].as_ref().unwrap().id();
                signal(id, "-STOP");
                last(time).await;
                signal(id, "-CONT");
            }
            Fault::FillDisk(time) => {
                self.limit_files("4096").await;
                last(time).await;
                self.limit_files("unlimited").await;
            }
            Fault::JumpClock(node, seconds) => {
                std::fs::write(self.clock(node), format!("{seconds:+}")).unwrap();
            }
            of_redis => self.suffer_redis(of_redis).await,
        }
        self.history.note(None, Event::FaultEnded { what });
    }

    async fn suffer_redis(&mut self, fault: Fault) {
        let redis = self.redis.as_mut().expect("only a run over Redis has its faults");
        match fault {
            Fault::KillRedis(time) | Fault::LoseRedis(time) => {
                redis.kill();
                last(time).await;
                redis.restart(matches!(fault, Fault::KillRedis(_)));
            }
            Fault::EmptyRedis => redis.ask(&cmd("FLUSHALL")).unwrap(),
            Fault::PauseRedis(time) => {
                redis.ask::<()>(cmd("CLIENT").arg("PAUSE").arg(time).arg("ALL")).unwrap();
                last(time).await;
            }
            Fault::StopRedis(time) => {
                redis.signal("-STOP");
                last(time).await;
                redis.signal("-CONT");
            }
            Fault::KillListening | Fault::KillWriting => {
                let kind = if fault == Fault::KillListening { "pubsub" } else { "normal" };
                let kill = ["KILL", "TYPE", kind, "SKIPME", "yes"];
                redis.ask::<u64>(cmd("CLIENT").arg(&kill)).unwrap();
            }
            Fault::FailOver(time) => {
                let replica = redis.cut_off_replica();
                last(time).await;
                redis.fail_over(replica);
            }
            _ => unreachable!("{fault:?} is none of Redis"),
        }
    }

    /// Ends a node, and starts it again somewhere else.
    async fn replace(&mut self, node: usize, at_once: bool) {
        let process = self.nodes[node].take().unwrap();
        let id = process.id();
        if at_once {
            process.kill().await;
        } else {
            process.terminate().await;
        }
        forget_clock(id);
        let process = process::start(self.command(node)).await;
        self.reach.addresses.lock()[node] = process.address();
        self.nodes[node] = Some(process);
    }

    async fn limit_files(&self, size: &str) {
        for process in self.nodes.iter().flatten() {
            let mut prlimit = Command::new("prlimit");
            prlimit.args(["--pid", &process.id().to_string(), &format!("--fsize={size}:")]);
            assert!(prlimit.status().await.unwrap().success(), "prlimit failed");
        }
    }

    /// Ends all nodes.
    pub async fn end(self) {
        for process in self.nodes.into_iter().flatten() {
            let id = process.id();
            process.kill().await;
            forget_clock(id);
        }
    }
}

/// A fault lasts for a while: there is nothing to wait for.
async fn last(millis: u64) {
    sleep(Duration::from_millis(millis)).await;
}

/// Removes what libfaketime leaves of a process that was killed: one that gets the same id could not start with it.
fn forget_clock(id: u32) {
    for name in ["faketime_shm_", "sem.faketime_sem_"] {
        // There is nothing where the process has ended in order.
        let _ = std::fs::remove_file(format!("/dev/shm/{name}{id}"));
    }
}
