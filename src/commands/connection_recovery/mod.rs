//! Connection state recovery: a client that lost its connection comes back with its id, its rooms and everything
//! that it missed.
//!
//! Its CONNECT names its session by a secret, the `pid`, and the newest [offset](crate::hub::sender::journal) that it has.
//! A session that its old connection still has is taken over. What cannot be done whole is not done: the client is
//! a new one then. With several nodes the session may be on another one (`arrival`), which hands it
//! over (`departure`).

mod arrival;
mod departure;

pub use self::departure::{hold, part, take};

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, interval};
use uuid::Uuid;

use super::{
    context::Context,
    lost_clients::{end, forget},
    room, session,
};
use crate::{
    broker::survey::Owner,
    hub::{
        Client, Namespace, Session,
        packet::parse_offset,
        sender::journal::{Bounds, Claimed, Journal, Place, Rest},
    },
    memory::{Account, Level, Memory},
    protocol::{
        client_id::ClientId, names::UserId, not_recovered::NotRecovered, permissions::Right,
    },
    sync::timeout,
};

/// How long a client waits for the end of its old connection.
const TAKE_OVER: Duration = Duration::from_secs(5);

/// How often the memory is looked at, and after how many times the sessions whose time is over are.
const LOOK: Duration = Duration::from_millis(100);
const LOOKS: u64 = 10;

/// How often it is remembered which node holds the sessions that have moved.
const REMEMBER: Duration = Duration::from_mins(1);

/// How much longer than a ping and its answer may take it is until a client has certainly answered.
const MARGIN: Duration = Duration::from_secs(10);

/// What a client says of its session when it connects.
#[derive(Clone)]
pub struct Back {
    /// The secret that names it.
    pub pid: String,
    /// The newest offset that it has.
    pub offset: Option<String>,
}

impl Back {
    /// The newest offset that it has, if there is one.
    ///
    /// # Errors
    /// If it names something else.
    pub fn newest(&self) -> Result<Option<u64>, NotRecovered> {
        let read = |offset: &String| parse_offset(offset).ok_or(NotRecovered::Offset);
        self.offset.as_ref().map(read).transpose()
    }
}

/// The journal of a new session, if connections may be recovered. Its client has `before` of a session before, if it
/// has anything.
pub fn open(
    context: &Context,
    account: &Arc<Account>,
    before: Option<u64>,
) -> Option<Arc<Journal>> {
    if !context.broker.here.recovers() {
        return None;
    }
    let (pid, bounds) = (new_pid(context).into(), Bounds::of(&context.config));
    let journal = context.registry.journals.open(pid, bounds, account);
    journal.begin_after(before);
    Some(journal)
}

/// A new secret. Where there are other nodes, it says which one made it.
fn new_pid(context: &Context) -> String {
    let secret = Uuid::new_v4().simple();
    match &context.cluster {
        Some(cluster) => format!("{secret}-{}", cluster.node()),
        None => secret.to_string(),
    }
}

/// A session that a new connection claims. Dropped before [`resume`](Self::resume), it is given back.
pub struct Claim {
    context: Context,
    journal: Arc<Journal>,
    lost: Arc<Client>,
    offset: Option<u64>,
    is_resumed: AtomicBool,
}

impl Claim {
    /// The id of its client.
    pub fn id(&self) -> &ClientId {
        &self.lost.id
    }

    /// What its client was sent.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Whether it belongs to the user of this session.
    pub fn is_of(&self, session: &Session) -> bool {
        is_own(&self.context, &self.lost, session.user.as_ref())
    }

    /// The session of the client that comes back. Where nobody proves who they are, it is still its old user.
    #[must_use]
    pub fn renew(&self, session: Session) -> Session {
        if self.context.config.users_prove() {
            return session;
        }
        Session { user: self.lost.user(), ..session }
    }

    /// The client is back; what it missed is still to be [sent](recover). Returns false if it cannot recover after
    /// all.
    pub fn resume(&self, client: &Arc<Client>) -> bool {
        if let Some(data) = self.lost.data() {
            client.set_data(data);
        }
        client.note_queue_sent(self.lost.queue_sent());
        let may = |name: &_| match self.lost.membership(name) {
            Some(place) if place.is_granted => true,
            _ => client.may(Right::Join, name),
        };
        self.is_resumed.store(true, Ordering::Relaxed);
        self.journal.resume(client, self.offset, may)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.journal.unclaim();
        if self.is_resumed.load(Ordering::Relaxed) {
            // Nothing remains but after an error.
            forget(&self.context, &self.lost);
        }
    }
}

/// Claims the session that a client names as it connects to this namespace. What it missed on another node is charged
/// to this account. An owner that is not known yet is to be [checked](Claim::is_of) later.
pub async fn claim(
    context: &Context,
    namespace: &Arc<Namespace>,
    back: &Back,
    owner: &Owner,
    account: &Arc<Account>,
) -> Option<Claim> {
    match find_and_claim(context, namespace, back, owner, account).await {
        Ok(claim) => Some(claim),
        Err(why) => {
            not_recovered(context, why);
            None
        }
    }
}

/// A client that wanted to go on where it was is a new one.
pub fn not_recovered(context: &Context, why: NotRecovered) {
    context.metrics.not_recovered(why);
    tracing::debug!(reason = why.as_str(), "not recovered");
}

async fn find_and_claim(
    context: &Context,
    namespace: &Arc<Namespace>,
    back: &Back,
    owner: &Owner,
    account: &Arc<Account>,
) -> Result<Claim, NotRecovered> {
    let offset = back.newest()?;
    let journal = match context.registry.journals.find(&back.pid) {
        Some(here) => here,
        None => arrival::bring(context, namespace, back, owner, account).await?,
    };
    let lost = claim_here(context, namespace, &journal, offset, owner).await?;
    let is_resumed = AtomicBool::new(false);
    Ok(Claim { context: context.clone(), journal, lost, offset, is_resumed })
}

/// Claims a session of this node; returns its last client.
async fn claim_here(
    context: &Context,
    namespace: &Arc<Namespace>,
    journal: &Arc<Journal>,
    offset: Option<u64>,
    owner: &Owner,
) -> Result<Arc<Client>, NotRecovered> {
    let is_own = |client: &Client| {
        let is_own = match owner {
            Owner::User(user) => is_own(context, client, user.as_ref()),
            Owner::Unknown => true,
        };
        is_own && client.ended().is_none()
    };
    let deadline = Instant::now() + TAKE_OVER;
    loop {
        let mut changed = std::pin::pin!(journal.changed());
        changed.as_mut().enable();
        match journal.claim(namespace, offset, is_own) {
            Claimed::Yes(lost) => return Ok(lost),
            Claimed::Connected(client) => client.sender.lose(),
            Claimed::Soon => {}
            Claimed::Unfit(why) => {
                end(context, journal, Place::Away);
                return Err(why);
            }
            Claimed::No(why) => return Err(why),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        timeout(left, changed).await.map_err(|_| NotRecovered::Busy)?;
    }
}

fn is_own(context: &Context, client: &Client, user: Option<&UserId>) -> bool {
    !context.config.users_prove() || client.user().as_ref() == user
}

/// Sends a client that is back what it missed, and takes it into its rooms again. Its inbox calls this before
/// anything else.
pub async fn recover(context: &Context, client: &Arc<Client>, claim: Claim) {
    loop {
        match claim.journal.send_missed(client) {
            Rest::Something => client.sender.room().await,
            Rest::Nothing => break,
            // Its end follows.
            Rest::Over => {
                client.sender.lose();
                break;
            }
        }
    }
    if let Err(refusal) = room::enter_again(context, client, &claim.lost) {
        tracing::debug!(client = %client.id, reason = %refusal.message, "not in all rooms again: cut off");
        client.sender.break_off();
    }
    session::begin(context, client);
    context.metrics.recovered();
    tracing::debug!(client = %client.id, "recovered");
}

/// A client's connection has ended, perhaps by being lost; returns whether the client may come back. Its end is to
/// be processed, and then [settled](settle).
pub fn leave(context: &Context, memory: &Memory, client: &Arc<Client>, is_lost: bool) -> bool {
    let Some(journal) = client.sender.journal() else { return false };
    let may_come_back = is_lost && client.ended().is_none() && memory.level() == Level::Calm;
    if may_come_back && journal.lose(client) {
        return true;
    }
    end(context, journal, Place::Connection(client.sender.connection_number()));
    false
}

/// Something went wrong with the end of a client that might have come back: it will not.
pub fn give_up(context: &Context, client: &Client) {
    if let Some(journal) = client.sender.journal() {
        end(context, journal, Place::Connection(client.sender.connection_number()));
    }
}

/// The end of a client's connection has been processed: it may come back from now on.
pub fn settle(context: &Context, client: &Arc<Client>) {
    let Some(journal) = client.sender.journal() else { return };
    client.sender.release();
    let rooms = client.room_count();
    journal.settle(context.registry.enter(&client.namespace.path));
    for journal in context.registry.journals.add_away(journal.clone(), rooms) {
        end(context, &journal, Place::Away);
    }
}

/// Ends the sessions whose time is over, and all of those that are away when memory is short; forgets what clients
/// must have. Runs as long as the process.
pub async fn watch(context: Context, memory: Memory) {
    let pings = context.config.ping_interval + context.config.ping_timeout + MARGIN;
    let (mut look, mut looks) = (interval(LOOK), 0_u64);
    let (mut tidied, mut remembered) = (Instant::now(), Instant::now());
    loop {
        look.tick().await;
        looks += 1;
        let is_short = memory.level() > Level::Calm;
        if is_short || looks.is_multiple_of(LOOKS) {
            for journal in context.registry.journals.take_over(is_short) {
                end(&context, &journal, Place::Away);
            }
        }
        if tidied.elapsed() >= pings {
            tidied = Instant::now();
            for journal in context.registry.journals.all() {
                journal.tidy();
            }
        }
        if remembered.elapsed() >= REMEMBER {
            remembered = Instant::now();
            tokio::spawn(arrival::remember_moved(context.clone()));
        }
    }
}

#[cfg(test)]
#[cfg(feature = "shuttle")]
mod shuttle_tests;
