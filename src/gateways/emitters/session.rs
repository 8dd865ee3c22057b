//! A session with Redis: what is heard, whose turn it is, and the work of the node that has it.
//!
//! The loss of any of its connections ends the session, and the turn with it.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt;
use redis::{
    AsyncConnectionConfig, Msg, RedisError, RedisResult, Script,
    aio::{MultiplexedConnection, PubSubStream},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    Shared, carry_out,
    intake::Message,
    names::Word,
    stream,
    turn::{Kept, LEASE, RENEWAL},
};
use crate::{
    broker::cluster::redis_error_text,
    store::{Found, Replaced},
    telemetry::metrics::{EmitterOutcome, EmitterSource},
};

/// How long Redis may take to accept this node, and to answer a command.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// How long the channels may be silent, although this node says something to itself.
const SILENCE: Duration = Duration::from_secs(5);

/// How long a node that leaves waits for its own word.
const OWN_WORD: Duration = Duration::from_secs(1);

/// How many messages are read and carried out together.
const BATCH: usize = 2000;

static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/claim.lua")));
static RELEASE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/release.lua")));

/// Its connections.
pub(super) struct Session {
    heard: PubSubStream,
    commands: MultiplexedConnection,
    /// For commands that wait for the stream.
    waiting: MultiplexedConnection,
    replaced: Replaced,
}

impl Session {
    /// Connects, and listens.
    pub(super) async fn open(shared: &Shared) -> Result<Self, String> {
        let opened = async {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(TIMEOUT))
                .set_response_timeout(Some(TIMEOUT));
            let Found { client, replaced } = shared.primary.find().await?;
            let (mut sink, heard) = client.get_async_pubsub().await?.split();
            let commands = client.get_multiplexed_async_connection_with_config(&config).await?;
            let waiting = client.get_multiplexed_async_connection_with_config(&config).await?;
            sink.subscribe(&[shared.names.to_all(), shared.names.to_self()][..]).await?;
            sink.psubscribe(&shared.names.patterns()[..]).await?;
            Ok::<_, RedisError>(Self { heard, commands, waiting, replaced })
        };
        match timeout(TIMEOUT, opened).await {
            Ok(opened) => opened.map_err(|error| redis_error_text(&error)),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    /// Serves until the session is lost: then the reason; or until the node stops: then `None`.
    pub(super) async fn serve(self, shared: &Arc<Shared>) -> Option<String> {
        let Self { heard, commands, waiting, replaced } = self;
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(shared.clone(), heard));
        tasks.spawn(keep_turn(shared.clone(), commands.clone()));
        tasks.spawn(work(shared.clone()));
        tasks.spawn(stream::read(shared.clone(), commands.clone(), waiting));
        tokio::select! {
            ended = tasks.join_next() => Some(match ended {
                Some(Ok(why)) => why,
                _ => "a task ended".to_owned(),
            }),
            () = replaced.wait() => Some(Replaced::REASON.to_owned()),
            () = shared.stop.cancelled() => {
                if let Err(error) = leave(shared, commands).await {
                    tracing::warn!(reason = redis_error_text(&error), "the emitters were not handed over to another node");
                }
                None
            }
        }
    }
}

/// Keeps what comes, as long as this node takes it; returns why nothing comes any more.
async fn listen(shared: Arc<Shared>, mut heard: PubSubStream) -> String {
    let (to_all, to_self) = (shared.names.to_all(), shared.names.to_self());
    loop {
        let message = match timeout(SILENCE, heard.next()).await {
            Ok(Some(message)) => message,
            Ok(None) => return "the connection was closed".to_owned(),
            Err(_) => return "nothing was heard for too long".to_owned(),
        };
        let channel = message.get_channel_name();
        if channel == to_all {
            match Word::read(message.get_payload_bytes()) {
                Some(Word::Leaving(node)) => shared.turn.leaving(&shared.names.node, node),
                Some(Word::Free) => shared.turn.freed(),
                None => {}
            }
        } else if channel != to_self && shared.turn.takes() {
            take(&shared, &message);
        }
    }
}

fn take(shared: &Shared, message: &Msg) {
    let bytes = Bytes::copy_from_slice(message.get_payload_bytes());
    let channel = message.get_channel_name().to_owned();
    if !shared.intake.push(Message { channel, bytes }) {
        tracing::warn!("emitters send more than can be carried out: a message is dropped");
        shared.count(EmitterSource::PubSub, EmitterOutcome::Dropped, 1);
    }
}

/// Claims the turn again and again; returns why it cannot.
async fn keep_turn(shared: Arc<Shared>, mut commands: MultiplexedConnection) -> String {
    let names = &shared.names;
    let lease = u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX);
    loop {
        let asked = Instant::now();
        let mut claim = CLAIM.key(names.turn());
        claim.arg(&names.node).arg(lease).arg(names.to_node());
        let holder = match claim.invoke_async::<String>(&mut commands).await {
            Ok(holder) => holder,
            Err(error) => return redis_error_text(&error),
        };
        let is_own = holder == names.node;
        if is_own && !shared.turn.is_own() {
            // From here on nothing that is added is missed.
            if let Err(error) = stream::position(&shared, &mut commands).await {
                tracing::warn!(
                    reason = redis_error_text(&error),
                    "the emitters' stream cannot be read"
                );
            }
        }
        if shared.turn.answered(asked, &names.node, &holder) == Kept::Goes {
            shared.count(EmitterSource::PubSub, EmitterOutcome::Dropped, shared.intake.clear());
        }
        shared.app.metrics.emitters_turn(is_own);
        // It comes back by the channels: proof that they are heard.
        let said_to_self =
            redis::cmd("PUBLISH").arg(names.to_self()).arg("").exec_async(&mut commands).await;
        if let Err(error) = said_to_self {
            return redis_error_text(&error);
        }
        tokio::select! {
            () = sleep(RENEWAL) => {}
            () = shared.turn.free() => {}
        }
    }
}

/// Carries out what has come by publish/subscribe.
async fn work(shared: Arc<Shared>) -> String {
    loop {
        shared.turn.own().await;
        let messages = shared.intake.take(BATCH).await;
        let count = messages.len();
        if !shared.turn.is_own() || shared.app.memory.check_work().is_err() {
            shared.count(EmitterSource::PubSub, EmitterOutcome::Dropped, count);
            shared.intake.done();
            continue;
        }
        let mut operations = Vec::with_capacity(count);
        for Message { channel, bytes } in messages {
            match shared.reader().message(&channel, &bytes) {
                Ok(operation) => operations.extend(operation),
                Err(error) => shared.note_unfit(EmitterSource::PubSub, &channel, &error),
            }
        }
        let outcomes = carry_out::carry_out(&shared.app, operations).await;
        let mut done = 0;
        for outcome in &outcomes {
            match outcome {
                Ok(()) => done += 1,
                Err(refusal) => shared.note_refused(EmitterSource::PubSub, refusal),
            }
        }
        shared.count(EmitterSource::PubSub, EmitterOutcome::Done, done);
        shared.intake.done();
    }
}

/// Gives the turn back, when all that came before is carried out.
async fn leave(shared: &Shared, mut commands: MultiplexedConnection) -> RedisResult<()> {
    if !shared.turn.is_own() {
        return Ok(());
    }
    let names = &shared.names;
    let word = Word::Leaving(names.node.clone()).as_text();
    redis::cmd("PUBLISH").arg(names.to_all()).arg(word).exec_async(&mut commands).await?;
    let _own_word = timeout(OWN_WORD, shared.turn.left()).await;
    shared.intake.finished().await;
    let _batch = shared.reading.lock().await;
    let mut release = RELEASE.key(names.turn());
    release.arg(&names.node).arg(names.to_all()).arg(Word::Free.as_text());
    release.invoke_async(&mut commands).await
}
