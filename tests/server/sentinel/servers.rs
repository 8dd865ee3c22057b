//! A redis-server with replicas, and three Sentinels that watch it, all with passwords.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};

use redis::FromRedisValue;
use tempfile::TempDir;

use crate::cluster::eventually;

/// The password of Redis, for all of its users.
const PASSWORD: &str = "of-redis";
/// That of the Sentinels.
const SENTINEL_PASSWORD: &str = "of-sentinels";
/// The users by which replicas and Sentinels come, so that a test can shut them out.
const USERS: [&str; 2] = ["copier", "watcher"];
/// How long a server may take to answer a command of a test.
const ANSWER: Duration = Duration::from_secs(2);

/// A process; ends with this value.
pub struct Server {
    pub port: u16,
    arguments: Vec<String>,
    password: &'static str,
    directory: TempDir,
    child: Option<Child>,
}

impl Server {
    /// A Redis, which copies another one if one is named.
    fn redis(port: u16, primary: Option<u16>) -> Self {
        let fixed = format!(
            "--port {port} --bind 127.0.0.1 --save --appendonly no --repl-diskless-sync-delay 0 \
             --requirepass {PASSWORD} --masteruser copier --masterauth {PASSWORD}"
        );
        let mut arguments = fixed.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let save = arguments.iter().position(|argument| argument == "--save").unwrap();
        arguments.insert(save + 1, String::new());
        for user in USERS {
            let rights = format!("--user {user} on >{PASSWORD} ~* &* +@all");
            arguments.extend(rights.split(' ').map(str::to_owned));
        }
        let mut server = Self {
            port,
            arguments,
            password: PASSWORD,
            directory: TempDir::new().unwrap(),
            child: None,
        };
        server.start(primary);
        server
    }

    fn sentinel(port: u16, primary: u16) -> Self {
        let directory = TempDir::new().unwrap();
        let config = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nrequirepass {SENTINEL_PASSWORD}\n\
             sentinel monitor mymaster 127.0.0.1 {primary} 2\n\
             sentinel auth-user mymaster watcher\n\
             sentinel auth-pass mymaster {PASSWORD}\n\
             sentinel down-after-milliseconds mymaster 1000\n\
             sentinel failover-timeout mymaster 5000\n\
             sentinel parallel-syncs mymaster 2\n",
            directory.path().display(),
        );
        fs::write(directory.path().join("sentinel.conf"), config).unwrap();
        let arguments = ["sentinel.conf", "--sentinel"].map(str::to_owned).into();
        let mut server =
            Self { port, arguments, password: SENTINEL_PASSWORD, directory, child: None };
        server.spawn(&[], "+monitor");
        // Told every now and then what the others know; for tests, more often.
        let often = "SENTINEL DEBUG INFO-PERIOD 200 PUBLISH-PERIOD 200 PING-PERIOD 200";
        server.command::<String>(often).unwrap();
        server
    }

    /// Starts a Redis, on its port, empty.
    pub fn start(&mut self, primary: Option<u16>) {
        let primary = primary.map(|port| port.to_string());
        let copy = primary.as_ref().map(|port| ["--replicaof", "127.0.0.1", port]);
        self.spawn(copy.as_ref().map_or(&[], |copy| copy), "Ready to accept");
    }

    fn spawn(&mut self, more: &[&str], ready: &str) {
        let mut child = Command::new("redis-server")
            .args(&self.arguments)
            .args(more)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server must be installed for these tests (./test.sh rust installs it)");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = Vec::new();
        let is_ready = lines.any(|line| {
            said.push(line.unwrap());
            said.last().is_some_and(|line| line.contains(ready))
        });
        assert!(is_ready, "a server did not start: {said:#?}");
        // It goes on writing, and must not wait for a reader.
        std::thread::spawn(move || lines.count());
        self.child = Some(child);
    }

    /// Sends a command given as it would be typed; `None` if it is not answered.
    pub fn command<T: FromRedisValue>(&self, words: &str) -> Option<T> {
        let url = format!("redis://:{}@127.0.0.1:{}", self.password, self.port);
        let client = redis::Client::open(url).unwrap();
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        command.arg(words.collect::<Vec<_>>());
        let mut connection = client.get_connection_with_timeout(ANSWER).ok()?;
        connection.set_read_timeout(Some(ANSWER)).unwrap();
        command.query(&mut connection).ok()
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Lets it stand still: connections stay, and nothing is answered.
    pub fn suspend(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// Lets neither replicas nor Sentinels in any more, and ends their connections: clients are not concerned.
    pub fn cut_off(&self) {
        for user in USERS {
            self.command::<String>(&format!("ACL SETUSER {user} off")).unwrap();
            self.command::<u64>(&format!("CLIENT KILL USER {user}")).unwrap();
        }
    }

    /// Lets them in again. Sentinels keep a connection whose password was refused, unless it is ended.
    pub fn rejoin(&self) {
        for user in USERS {
            self.command::<String>(&format!("ACL SETUSER {user} on")).unwrap();
        }
        for kind in ["normal", "pubsub"] {
            self.command::<u64>(&format!("CLIENT KILL TYPE {kind}")).unwrap();
        }
    }

    /// A field of its state.
    pub fn field(&self, name: &str) -> Option<String> {
        let info = self.command::<String>("INFO replication")?;
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(str::to_owned)
    }

    /// Whether it copies another one.
    pub fn is_replica(&self) -> bool {
        self.field("role").is_some_and(|role| role == "slave")
    }

    /// Whether it has all that the one it copies has sent.
    fn is_in_step(&self) -> bool {
        self.field("master_link_status").is_some_and(|status| status == "up")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Servers of which one takes writes, and their Sentinels.
pub struct Servers {
    /// The first one takes writes at the beginning.
    pub redis: Vec<Server>,
    pub sentinels: Vec<Server>,
}

impl Servers {
    /// Starts them, and waits until all know of one another.
    pub async fn start(replicas: usize) -> Self {
        let ports = free_ports(replicas + 4);
        let (redis, sentinels) = ports.split_at(replicas + 1);
        let primary = redis[0];
        let mut redis = vec![Server::redis(primary, None)];
        redis.extend(ports[1..=replicas].iter().map(|port| Server::redis(*port, Some(primary))));
        for replica in &redis[1..] {
            eventually("the replicas copy", async || replica.is_in_step()).await;
        }
        let sentinels = sentinels.iter().map(|port| Server::sentinel(*port, primary)).collect();
        let servers = Self { redis, sentinels };
        for sentinel in &servers.sentinels {
            eventually("the Sentinels know of one another", async || {
                let fields = sentinel.command::<Vec<(String, String)>>("SENTINEL MASTER mymaster");
                let fields = fields.unwrap_or_default();
                let is = |name: &str, count: usize| {
                    fields.iter().any(|(known, value)| known == name && *value == count.to_string())
                };
                is("num-slaves", replicas) && is("num-other-sentinels", 2)
            })
            .await;
        }
        servers
    }

    /// What the nodes are given.
    pub fn url(&self) -> String {
        Self::url_of(self.sentinels.iter().map(|sentinel| sentinel.port))
    }

    /// The same with Sentinels at these ports.
    pub fn url_of(ports: impl IntoIterator<Item = u16>) -> String {
        let hosts = ports.into_iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>();
        let hosts = hosts.join(",");
        format!(
            "redis+sentinel://:{PASSWORD}@{hosts}/mymaster/0?sentinel_password={SENTINEL_PASSWORD}"
        )
    }

    /// The one that takes writes, as a Sentinel says.
    pub fn primary(&self) -> Option<usize> {
        let ask = "SENTINEL GET-MASTER-ADDR-BY-NAME mymaster";
        let (_, port) = self.sentinels[0].command::<(String, u16)>(ask)?;
        self.redis.iter().position(|server| server.port == port)
    }

    /// Waits until the Sentinels name another one than this, which takes writes; returns it.
    pub async fn promoted(&self, before: usize) -> usize {
        eventually("another one is the primary", async || {
            self.primary().is_some_and(|now| now != before && !self.redis[now].is_replica())
        })
        .await;
        self.primary().unwrap()
    }
}

/// Ports that nobody listens on.
pub fn free_ports(count: usize) -> Vec<u16> {
    // All are held until each is known.
    let held = (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let held = held.collect::<Vec<_>>();
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}
