//! What is to happen in a run: made from a seed before it begins, the same for the same seed.

use crate::random::Random;

/// What a run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    /// One node with the embedded store.
    Embedded,
    /// One node on Redis.
    Redis,
    /// Three nodes on one Redis.
    Cluster,
}

/// How a message is sent, which decides who is left out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `message` to all members.
    Message,
    /// `message` to all members but the sender.
    ToOthers,
    /// `sendMessage`.
    Chat,
    /// `channels`.
    Update,
    /// `POST /messages/broadcast` to all members but the client of this number.
    Broadcast(usize),
}

/// A step of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Join(usize),
    /// Where it is no member any more, it asks for what it missed meanwhile.
    JoinAgain(usize),
    Leave(usize),
    Send {
        room: usize,
        count: u64,
        kind: Kind,
    },
    /// To the mailbox of this number.
    Private {
        mailbox: usize,
        count: u64,
    },
    /// Reads the history of a room that it is no member of.
    Page(usize),
    /// Goes without a word; comes back, and recovers.
    Vanish,
    /// Leaves, comes back, and recovers.
    Disconnect,
    /// Reads nothing for some milliseconds.
    Doze(u64),
    /// Does nothing for some milliseconds.
    Rest(u64),
}

/// A step of a user who is mostly offline: how it comes, for some milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// It reads, and leaves.
    Read(u64),
    /// It reads, and is suddenly gone.
    Cut(u64),
    /// It reads nothing, and is suddenly gone.
    Deaf(u64),
    /// It stays away.
    Away(u64),
}

/// What is done to the servers, and undone; times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`, and started again.
    KillNode(usize),
    /// SIGTERM, and started again.
    RestartNode(usize),
    /// SIGSTOP, and later SIGCONT.
    StopNode(usize, u64),
    /// The store cannot be written.
    FillDisk(u64),
    /// A node's wall clock goes this much ahead of the real one, or behind it, in seconds.
    JumpClock(usize, i64),
    /// Redis is killed, and comes back with all that it had.
    KillRedis(u64),
    /// Redis is killed, and comes back with nothing.
    LoseRedis(u64),
    /// FLUSHALL.
    EmptyRedis,
    /// CLIENT PAUSE.
    PauseRedis(u64),
    /// SIGSTOP, and later SIGCONT.
    StopRedis(u64),
    /// All connections of nodes to Redis are killed: those by which messages come, or those by which they go.
    KillListening,
    KillWriting,
    /// Redis is replaced by a replica that is this far behind.
    FailOver(u64),
}

impl Fault {
    /// Whether what was acknowledged may be gone.
    pub fn loses(self) -> bool {
        matches!(self, Self::LoseRedis(_) | Self::EmptyRedis | Self::FailOver(_))
    }
}

/// The rooms of a run.
pub const ROOMS: [&str; 3] = ["red", "green", "blue"];

/// The whole of what is to happen.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub topology: Topology,
    /// Settings of the servers besides those that all runs have.
    pub settings: Vec<(&'static str, &'static str)>,
    /// Whether messages expire, so that rooms are forgotten.
    pub expires: bool,
    pub clients: Vec<Vec<Step>>,
    pub mailboxes: Vec<Vec<Visit>>,
    /// Each as soon as the clients have done so many steps.
    pub faults: Vec<(usize, Fault)>,
}

impl Plan {
    /// One of `steps` steps a client.
    pub fn random(seed: u64, topology: Topology, steps: usize) -> Self {
        let mut random = Random::new(seed);
        let (clients, mailboxes) = (6, 2);
        let scripts =
            (0..clients).map(|client| script(&mut random, client, clients, mailboxes, steps));
        let scripts = scripts.collect::<Vec<_>>();
        let visits = (0..mailboxes).map(|_| (0..steps / 2).map(|_| visit(&mut random)).collect());
        let visits = visits.collect();
        let all = clients * steps;
        let count = 2 + steps / 8;
        let faults = (1..=count).map(|n| (all * n / (count + 1), fault(&mut random, topology)));
        Self {
            seed,
            topology,
            settings: Vec::new(),
            expires: false,
            clients: scripts,
            mailboxes: visits,
            faults: faults.collect(),
        }
    }
}

fn script(
    random: &mut Random,
    client: usize,
    clients: usize,
    mailboxes: usize,
    steps: usize,
) -> Vec<Step> {
    let room = client % ROOMS.len();
    let mut script = vec![Step::Join(room), Step::Join((room + 1) % ROOMS.len())];
    while script.len() < steps {
        let room = random.index(ROOMS.len());
        script.push(match random.between(0, 100) {
            0..50 => Step::Send { room, count: random.between(1, 40), kind: kind(random, clients) },
            50..58 => {
                Step::Private { mailbox: random.index(mailboxes), count: random.between(1, 6) }
            }
            58..66 => Step::Join(room),
            66..72 => Step::JoinAgain(room),
            72..76 => Step::Leave(room),
            76..82 => Step::Page(room),
            82..89 => Step::Vanish,
            89..92 => Step::Disconnect,
            92..95 => Step::Doze(random.between(10, 400)),
            _ => Step::Rest(random.between(1, 100)),
        });
    }
    script
}

fn kind(random: &mut Random, clients: usize) -> Kind {
    match random.between(0, 10) {
        0..3 => Kind::Message,
        3..6 => Kind::ToOthers,
        6 => Kind::Chat,
        7 => Kind::Update,
        _ => Kind::Broadcast(random.index(clients)),
    }
}

fn visit(random: &mut Random) -> Visit {
    match random.between(0, 4) {
        0 => Visit::Read(random.between(50, 700)),
        1 => Visit::Cut(random.between(1, 500)),
        2 => Visit::Deaf(random.between(50, 900)),
        _ => Visit::Away(random.between(50, 400)),
    }
}

fn fault(random: &mut Random, topology: Topology) -> Fault {
    let node = if topology == Topology::Cluster { random.index(3) } else { 0 };
    let short = random.between(50, 900);
    // Within an hour: what is kept for a day does not expire.
    let jump = i64::try_from(random.between(0, 7200)).unwrap() - 3600;
    let of_node = [
        Fault::KillNode(node),
        Fault::RestartNode(node),
        Fault::StopNode(node, short),
        Fault::JumpClock(node, jump),
    ];
    let of_redis = [
        Fault::KillRedis(short),
        Fault::LoseRedis(short),
        Fault::EmptyRedis,
        Fault::PauseRedis(short),
        Fault::StopRedis(short),
        Fault::KillListening,
        Fault::KillListening,
        Fault::KillWriting,
        Fault::FailOver(short),
    ];
    match topology {
        Topology::Embedded if random.chance(30) => Fault::FillDisk(short),
        Topology::Redis | Topology::Cluster if random.chance(70) => random.pick(&of_redis),
        _ => random.pick(&of_node),
    }
}
