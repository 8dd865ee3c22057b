//! Masters and replicas of a Redis Cluster.

use crate::{cluster::eventually, support::redis::RedisServer};

/// How many slots there are.
const SLOTS: usize = 16_384;

/// The nodes of a Redis Cluster: masters, then a replica of each, then those that came later.
pub(super) struct Servers {
    pub redis: Vec<RedisServer>,
    pub masters: usize,
}

impl Servers {
    /// Waits until all know of one another, and every replica has what its master has.
    pub(super) async fn start(masters: usize) -> Self {
        let redis = (0..2 * masters).map(|_| RedisServer::in_cluster()).collect::<Vec<_>>();
        let servers = Self { redis, masters };
        for (n, server) in servers.redis.iter().enumerate() {
            server.command::<()>(&format!("CLUSTER SET-CONFIG-EPOCH {}", n + 1));
            if n < masters {
                let (first, next) = (n * SLOTS / masters, (n + 1) * SLOTS / masters);
                let last = next - 1;
                server.command::<()>(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"));
            }
            server.meet(&servers.redis[0]);
        }
        servers.know(2 * masters).await;
        for n in 0..masters {
            let (replica, id) = (&servers.redis[masters + n], servers.id(n));
            replica.command::<()>(&format!("CLUSTER REPLICATE {id}"));
        }
        for replica in &servers.redis[masters..] {
            eventually("the replicas copy", async || {
                replica.command::<String>("INFO replication").contains("master_link_status:up")
            })
            .await;
        }
        for server in &servers.redis {
            eventually("the Redis Cluster is there", async || {
                let replicas = server.command::<String>("CLUSTER NODES").matches(" slave ").count()
                    + server.command::<String>("CLUSTER NODES").matches("myself,slave").count();
                let info = server.command::<String>("CLUSTER INFO");
                replicas == masters && info.contains("cluster_state:ok")
            })
            .await;
        }
        servers
    }

    /// Waits until each knows so many.
    async fn know(&self, count: usize) {
        for server in &self.redis {
            eventually("all know of one another", async || {
                let nodes = server.command::<String>("CLUSTER NODES");
                nodes.lines().count() == count && !nodes.contains("handshake")
            })
            .await;
        }
    }

    /// Another master without slots.
    pub(super) async fn add_master(&mut self) -> usize {
        let server = RedisServer::in_cluster();
        server.meet(&self.redis[0]);
        self.redis.push(server);
        self.know(self.redis.len()).await;
        let added = self.redis.len() - 1;
        eventually("it takes part", async || {
            self.redis[added].command::<String>("CLUSTER INFO").contains("cluster_state:ok")
        })
        .await;
        added
    }

    fn id(&self, at: usize) -> String {
        self.redis[at].command("CLUSTER MYID")
    }

    /// What the nodes of roomcast are given: some of them.
    pub(super) fn url(&self) -> String {
        let hosts = self.redis[1..].iter().map(|redis| format!("127.0.0.1:{}", redis.port()));
        format!("redis+cluster://{}", hosts.collect::<Vec<_>>().join(","))
    }

    /// The slot of a key, and the master that serves it, as this server says.
    pub(super) fn place(&self, key: &str, asked: usize) -> (u64, usize) {
        let slot: u64 = self.redis[asked].command(&format!("CLUSTER KEYSLOT {key}"));
        let nodes: String = self.redis[asked].command("CLUSTER NODES");
        let serves = |line: &&str| {
            line.split(' ').skip(8).any(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let bounds = (first.parse::<u64>(), last.parse::<u64>());
                matches!(bounds, (Ok(first), Ok(last)) if (first..=last).contains(&slot))
            })
        };
        let owner = nodes.lines().find(serves).unwrap();
        let is_owner =
            |redis: &RedisServer| owner.contains(&format!("127.0.0.1:{}@", redis.port()));
        (slot, self.redis.iter().position(is_owner).unwrap())
    }

    /// Waits until the replica of this master serves its slots.
    pub(super) async fn promoted(&self, master: usize) {
        let replica = &self.redis[self.masters + master];
        eventually("the replica takes over", async || {
            let nodes = replica.command::<String>("CLUSTER NODES");
            nodes.contains("myself,master")
        })
        .await;
    }

    /// Waits until this one is a replica of the one that took over.
    pub(super) async fn demoted(&self, master: usize) {
        eventually("it is a replica", async || {
            let info = self.redis[master].command::<String>("INFO replication");
            info.contains("role:slave") && info.contains("master_link_status:up")
        })
        .await;
    }

    /// Begins to move a slot.
    pub(super) fn begin_move(&self, slot: u64, from: usize, to: usize) {
        let (source, target) = (self.id(from), self.id(to));
        self.redis[to].command::<()>(&format!("CLUSTER SETSLOT {slot} IMPORTING {source}"));
        self.redis[from].command::<()>(&format!("CLUSTER SETSLOT {slot} MIGRATING {target}"));
    }

    /// Moves some of its keys; returns whether there were any.
    pub(super) fn move_keys(&self, slot: u64, from: usize, to: usize, count: usize) -> bool {
        let find = format!("CLUSTER GETKEYSINSLOT {slot} {count}");
        let keys: Vec<String> = self.redis[from].command(&find);
        let (port, names) = (self.redis[to].port(), keys.join(" "));
        if !keys.is_empty() {
            // The empty word stands for several keys.
            let migrate = format!("MIGRATE 127.0.0.1 {port}  0 5000 KEYS {names}");
            self.redis[from].command::<()>(&migrate);
        }
        !keys.is_empty()
    }

    /// Moves a slot with all its keys.
    pub(super) fn move_slot(&self, slot: u64, from: usize, to: usize) {
        self.begin_move(slot, from, to);
        while self.move_keys(slot, from, to, 10) {}
        for server in [to, from] {
            let target = self.id(to);
            self.redis[server].command::<()>(&format!("CLUSTER SETSLOT {slot} NODE {target}"));
        }
    }
}
