//! The connections to Redis: made at start, made again whenever they fail, and checked every second.
//! Requests meanwhile are refused, not kept.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Value, aio::ConnectionLike, cmd};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    connections::{self, Connections, Seen, load_scripts},
    layout::Layout,
    leaving,
    names::{connection_name, slot_key},
    primary::{Primary, Replaced},
    replicas::{self, FEW_REPLICAS},
    replies::{LATE, done_again, elsewhere, flatten, is_elsewhere, is_no_script},
};
use crate::store::types::{Clock, Health, StoreError};

/// The pause after the first failed attempt to connect; it doubles with each further failure.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The reason given when the list of instances is another one than the connections began with.
pub(super) const MOVED: &str = "the list of Redis instances has changed";
/// After this many successful checks in a row, a failing Redis counts as working again.
const SETTLED: u32 = 5;
/// The most reads under way at once; further ones wait in order. This bounds the memory that answers take.
const READS: usize = 32;

/// What became of writes.
pub(super) struct Written {
    /// Redis' answers.
    pub values: Vec<Value>,
    /// Whether enough replicas have them.
    pub is_safe: bool,
}

struct Failing {
    reason: String,
    /// In milliseconds since 1970.
    since_ms: i64,
    /// Successful checks in a row.
    calm: u32,
}

#[derive(Clone)]
enum State {
    /// Not tried yet, or just lost: callers wait for the attempt.
    Connecting,
    Up(Arc<Connections>),
    /// The last attempt failed; others follow.
    Down(String),
    Closed,
}

pub(super) struct Link {
    primary: Primary,
    /// The list of instances, and this one's place in it.
    layout: Arc<Layout>,
    place: usize,
    /// How many replicas must have what is written; 0 for none.
    replicas: u64,
    prefix: String,
    /// The connections' name in Redis.
    name: String,
    deadline: Duration,
    clock: Clock,
    /// In milliseconds since 1970.
    started: i64,
    state: watch::Sender<State>,
    lost: Notify,
    /// Where rooms may lie that are another instance's, the generation of the list under which they are.
    untidy: watch::Sender<Option<String>>,
    reads: Semaphore,
    seen: Seen,
    /// Why Redis is failing, if it is.
    failing: Mutex<Option<Failing>>,
    rooms: AtomicU64,
}

impl Link {
    pub(super) fn new(
        (primary, replicas): (Primary, u64),
        (layout, place): (Arc<Layout>, usize),
        prefix: String,
        node: &str,
        deadline: Duration,
        clock: Clock,
    ) -> Self {
        let name = connection_name(node);
        Self {
            primary,
            layout,
            place,
            replicas,
            prefix,
            name,
            deadline,
            started: clock.now_ms(),
            clock,
            state: watch::Sender::new(State::Connecting),
            lost: Notify::new(),
            untidy: watch::Sender::new(None),
            reads: Semaphore::new(READS),
            seen: Seen::default(),
            failing: Mutex::default(),
            rooms: AtomicU64::new(0),
        }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// This instance's place among all, from 0, and how many there are.
    pub(super) fn place(&self) -> (usize, usize) {
        (self.place, self.layout.count())
    }

    /// Waits until rooms may lie here that are another instance's; returns the generation of the list.
    pub(super) async fn untidy(&self) -> String {
        loop {
            let mut untidy = self.untidy.subscribe();
            // Cannot fail: the sender is in `self`.
            let _ = untidy.wait_for(Option::is_some).await;
            if let Some(generation) = self.untidy.send_replace(None) {
                return generation;
            }
        }
    }

    /// Waits until it was tried to connect.
    pub(super) async fn tried(&self) {
        let tried = |state: &State| !matches!(state, State::Connecting);
        // Cannot fail: the sender is in `self`.
        let _ = self.state.subscribe().wait_for(tried).await;
    }

    /// Every command is answered within this, by Redis or by a refusal.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// How many rooms were stored at the last check.
    pub(super) fn rooms(&self) -> u64 {
        self.rooms.load(Relaxed)
    }

    pub(super) fn note_rooms(&self, count: u64) {
        self.rooms.store(count, Relaxed);
    }

    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Keeps the connections up until [`Link::close`]; checks them every `tick`.
    pub(super) async fn keep(&self, tick: Duration) {
        let mut closed = self.state.subscribe();
        tokio::select! {
            () = self.keep_on(tick) => {}
            _ = closed.wait_for(|state| matches!(state, State::Closed)) => {}
        }
    }

    async fn keep_on(&self, tick: Duration) {
        let mut pause = FIRST_PAUSE;
        // Since when the slot of the keys is on its way: callers wait for a while.
        let mut moving = None;
        loop {
            match flatten(timeout(self.deadline, self.connect()).await) {
                Ok(connections) => {
                    (pause, moving) = (FIRST_PAUSE, None);
                    let connections = Arc::new(connections);
                    if connections.admitted.is_untidy {
                        self.untidy.send_replace(Some(connections.admitted.generation.clone()));
                    }
                    self.change(State::Up(connections.clone()));
                    self.works();
                    tracing::info!(instance = self.place + 1, "connected to Redis");
                    self.look_after(&connections, tick).await;
                }
                Err(error) => {
                    let reason = error.to_string();
                    self.fails(&reason);
                    self.seen.note_move(&error);
                    let is_moving =
                        matches!(error.kind(), ErrorKind::Server(kind) if is_elsewhere(kind));
                    moving = is_moving.then(|| moving.unwrap_or_else(Instant::now));
                    if moving.is_some_and(|since| since.elapsed() < self.deadline) {
                        sleep(FIRST_PAUSE).await;
                        continue;
                    }
                    self.change(State::Down(reason));
                    sleep(pause).await;
                    pause = LONGEST_PAUSE.min(pause * 2);
                }
            }
        }
    }

    async fn connect(&self) -> RedisResult<Connections> {
        let layout = (&*self.layout, self.place);
        connections::connect(&self.primary, &self.name, &self.prefix, &self.seen, layout).await
    }

    /// Checks the connections every `tick`; returns when they are lost.
    async fn look_after(&self, connections: &Arc<Connections>, tick: Duration) {
        loop {
            let pinged = async {
                sleep(tick).await;
                flatten(timeout(self.deadline, self.ping(connections)).await)
            };
            tokio::select! {
                // The notice may be about earlier connections.
                () = self.lost.notified() => {}
                () = connections.replaced.wait() => {
                    self.lose(connections, &(ErrorKind::Io, Replaced::REASON).into());
                }
                pinged = pinged => {
                    if let Err(error) = pinged {
                        self.lose(connections, &error);
                    }
                }
            }
            if !self.is_up(connections) {
                return;
            }
        }
    }

    /// Pings both connections. While Redis is failing, tests whether writes succeed again.
    async fn ping(&self, connections: &Connections) -> RedisResult<()> {
        let (mut writes, mut reads) = (connections.writes.clone(), connections.reads.clone());
        let failing = self.failing.lock().is_some();
        let mut ping = cmd("EXISTS");
        ping.arg(slot_key(&self.prefix));
        if failing {
            ping = cmd("SET");
            ping.arg(format!("{}:ping", self.prefix)).arg("").arg("PX").arg(1_000);
        }
        let mut count = cmd("ZCARD");
        count.arg(format!("{}:log:rooms", self.prefix));
        let (layout, mut looks) = (Layout::look(&self.prefix), connections.reads.clone());
        let pinged = async {
            let answer = writes.req_packed_command(&ping).await?;
            let is_safe = !failing || replicas::have_all(self.replicas, &mut writes).await?;
            Ok::<_, RedisError>((answer, is_safe))
        };
        let counting = reads.req_packed_command(&count);
        let looking = looks.req_packed_command(&layout);
        let (written, counted, looked) = tokio::join!(pinged, counting, looking);
        let (looked, counted, written) = (looked?, counted?, written?);
        if let Some(error) = [&looked, &counted, &written.0].into_iter().find_map(elsewhere) {
            return Err(error);
        }
        let is_in_force = match looked {
            Value::BulkString(found) => self.layout.holds(&connections.admitted, &found),
            Value::Nil => self.layout.holds(&connections.admitted, b""),
            _ => true,
        };
        if !is_in_force {
            return Err((ErrorKind::Io, MOVED).into());
        }
        if let Value::Int(count) = counted {
            self.note_rooms(count.cast_unsigned());
        }
        match written {
            (Value::ServerError(error), _) => self.fails(&RedisError::from(error).to_string()),
            (_, false) => self.fails(FEW_REPLICAS),
            _ if failing => self.calms(),
            _ => {}
        }
        Ok(())
    }

    /// The connections; waits while they are being made.
    pub(super) async fn connections(
        &self,
        deadline: Instant,
    ) -> Result<Arc<Connections>, StoreError> {
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| !matches!(state, State::Connecting));
        let refused = match timeout_at(deadline, settled).await {
            Ok(Ok(state)) => match &*state {
                State::Up(connections) => return Ok(connections.clone()),
                State::Down(reason) => format!("Redis cannot be reached: {reason}"),
                State::Connecting | State::Closed => "the store is closed".to_owned(),
            },
            Ok(Err(_)) => "the store is closed".to_owned(),
            Err(_) => "Redis could not be reached in time".to_owned(),
        };
        Err(StoreError::Unavailable(refused))
    }

    /// Sends writes as one pipeline, in order, and waits for the replicas. An error means that the connection
    /// failed and that the outcome of the writes is unknown. Refusals by Redis are among the values.
    pub(super) async fn write(
        &self,
        connections: &Arc<Connections>,
        pipeline: &Pipeline,
        deadline: Instant,
    ) -> RedisResult<Written> {
        let mut writes = connections.writes.clone();
        let sent = async {
            let values = writes.req_packed_commands(pipeline, 0, pipeline.len()).await?;
            let values = done_again(&mut writes, pipeline, values).await?;
            Ok(Written { values, is_safe: replicas::have_all(self.replicas, &mut writes).await? })
        };
        let written = flatten(timeout_at(deadline, sent).await);
        if let Err(error) = &written {
            self.lose(connections, error);
        }
        written
    }

    /// Sends a read to Redis, on the connection for reads; again if the keys are elsewhere by now.
    pub(super) async fn read(&self, call: &Cmd) -> Result<Value, StoreError> {
        let deadline = Instant::now() + self.deadline;
        let late = |_| StoreError::Unavailable("too many reads wait for Redis".into());
        let Ok(_permit) = timeout_at(deadline, self.reads.acquire()).await.map_err(late)? else {
            return Err(StoreError::Unavailable("the store is closed".into()));
        };
        loop {
            let connections = self.connections(deadline).await?;
            let mut reads = connections.reads.clone();
            let asked = async {
                let value = reads.req_packed_command(call).await?;
                if !is_no_script(&value) {
                    return Ok(value);
                }
                load_scripts(&mut reads).await?;
                reads.req_packed_command(call).await
            };
            let answer = timeout_at(deadline, asked).await;
            return match answer {
                Ok(Ok(value)) => match (elsewhere(&value), value) {
                    (Some(error), _) => {
                        self.lose(&connections, &error);
                        continue;
                    }
                    (None, Value::ServerError(error)) => {
                        Err(StoreError::Unavailable(RedisError::from(error).to_string()))
                    }
                    (None, value) => Ok(value),
                },
                Ok(Err(error)) => {
                    self.lose(&connections, &error);
                    Err(StoreError::Unavailable(error.to_string()))
                }
                // The answer may only be large. The next ping tells whether the connection still works.
                Err(_) => Err(StoreError::Unavailable(LATE.into())),
            };
        }
    }

    /// Gives up failed connections; others are made.
    pub(super) fn lose(&self, failed: &Arc<Connections>, error: &RedisError) {
        let lost = self.state.send_if_modified(|state| {
            let current = matches!(state, State::Up(current) if Arc::ptr_eq(current, failed));
            if current {
                *state = State::Connecting;
            }
            current
        });
        if lost {
            self.seen.note_move(error);
            self.fails(&error.to_string());
            self.lost.notify_one();
        }
    }

    fn is_up(&self, connections: &Arc<Connections>) -> bool {
        matches!(&*self.state.borrow(), State::Up(current) if Arc::ptr_eq(current, connections))
    }

    /// Changes the state, unless it is closed, which is final.
    fn change(&self, to: State) {
        self.state.send_if_modified(|state| {
            let open = !matches!(state, State::Closed);
            if open {
                *state = to;
            }
            open
        });
    }

    /// Notes that Redis is failing.
    pub(super) fn fails(&self, reason: &str) {
        let mut failing = self.failing.lock();
        let since = failing.take().map(|failing| failing.since_ms);
        if since.is_none() {
            let instance = self.place + 1;
            tracing::error!(
                instance,
                reason,
                "Redis does not store messages; retrying every second"
            );
        }
        let since_ms = since.unwrap_or_else(|| self.clock.now_ms());
        *failing = Some(Failing { reason: reason.to_owned(), since_ms, calm: 0 });
    }

    /// Counts a successful check. After several in a row Redis counts as working, so that a nearly full one
    /// does not flap between ready and not ready.
    fn calms(&self) {
        let mut failing = self.failing.lock();
        let Some(known) = failing.as_mut() else { return };
        known.calm += 1;
        let settled = known.calm >= SETTLED;
        drop(failing);
        if settled {
            self.works();
        }
    }

    /// Notes that Redis works.
    fn works(&self) {
        if self.failing.lock().take().is_some() {
            tracing::info!(instance = self.place + 1, "Redis takes messages");
        }
    }

    pub(super) fn health(&self) -> Health {
        let state = self.state.borrow();
        match (&*state, &*self.failing.lock()) {
            (State::Closed, _) => Health::Closed,
            (_, Some(Failing { reason, since_ms, .. })) => {
                Health::Failing { reason: reason.clone(), since_ms: *since_ms }
            }
            (State::Up(_), None) => Health::Working,
            (State::Connecting | State::Down(_), None) => {
                Health::Failing { reason: "not connected yet".into(), since_ms: self.started }
            }
        }
    }

    /// Leaves in order: this node writes nothing any more.
    pub(super) async fn leave(&self) {
        let State::Up(connections) = self.state.borrow().clone() else { return };
        let mut writes = connections.writes.clone();
        let may_mark = !self.primary.is_watched();
        let left =
            leaving::leave(&mut writes, &self.name, &self.prefix, &connections.run, may_mark);
        match flatten(timeout(self.deadline, left).await) {
            Ok(true) => tracing::info!("this is the last node: the epochs are kept"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the node could not leave Redis in order"),
        }
    }

    /// Refuses everything from now on and ends the connections.
    pub(super) fn close(&self) {
        self.state.send_replace(State::Closed);
        self.reads.close();
    }

    /// Returns once the link is closed.
    pub(super) async fn closed(&self) {
        // Cannot fail: the sender is in `self`.
        let _ = self.state.subscribe().wait_for(|state| matches!(state, State::Closed)).await;
    }
}
