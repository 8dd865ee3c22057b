//! The gateway for Socket.IO's Redis emitters: what they publish, and add to a stream, takes effect here.
//!
//! Every node hears what is published, and one of them takes it: the one whose *turn* it is. It reads the stream,
//! too. Invariants:
//! - a message of publish/subscribe is carried out at most once, an entry of the stream at least once;
//! - operations are carried out in their order, one after the other but for messages, which share commits;
//! - what is read but not carried out is bounded: beyond that publish/subscribe is dropped, and the stream waits
//!   in Redis;
//! - nothing that is published, however garbled, does more than a line in the log.
//!
//! ```text
//! PUBLISH ─► all nodes listen ─► intake ─┐
//!                                        ├─► reading ─► carry_out ─► commands    (the node whose turn it is)
//! XADD ─► stream ─► XREAD ───────────────┘                 └─► the position in the stream is kept
//! ```

mod carry_out;
mod intake;
mod msgpack;
mod names;
mod reading;
mod session;
mod stream;
mod turn;

use std::{borrow::Cow, sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{intake::Intake, names::Names, session::Session, turn::Turn};
use crate::{
    gateways::{app::App, emitters::reading::Reader},
    protocol::refusal::Refusal,
    store::Primary,
    telemetry::metrics::{EmitterOutcome, EmitterSource},
};

/// How long to wait before reconnecting: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// How long a server that starts waits until it hears emitters.
const READY: Duration = Duration::from_secs(3);

/// What emitters sent cannot be read: why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unfit(Cow<'static, str>);

/// The task that listens to emitters.
#[derive(Debug)]
pub struct Emitters {
    stop: CancellationToken,
    running: JoinHandle<()>,
}

/// What the tasks share.
struct Shared {
    app: App,
    primary: Primary,
    names: Names,
    intake: Intake,
    turn: Turn,
    /// Held while entries of the stream are carried out.
    reading: tokio::sync::Mutex<()>,
    stop: CancellationToken,
}

impl Emitters {
    /// Begins to listen, and waits a moment until it does; `None` if the configuration names no emitters. Must be
    /// called inside the runtime.
    pub async fn start(app: &App, primary: Option<&Primary>) -> Option<Self> {
        let (primary, prefix) = primary.zip(app.config.emitter_prefix.as_ref())?;
        let shared = Arc::new(Shared {
            app: app.clone(),
            primary: primary.clone(),
            names: Names::new(&app.config.redis_prefix, prefix, &app.node),
            intake: Intake::default(),
            turn: Turn::default(),
            reading: tokio::sync::Mutex::default(),
            stop: CancellationToken::new(),
        });
        let stop = shared.stop.clone();
        let running = tokio::spawn(shared.clone().run());
        if timeout(READY, shared.turn.is_known()).await.is_err() {
            tracing::warn!("emitters are not heard yet: Redis is away");
        }
        Some(Self { stop, running })
    }

    /// Hands over to another node: what has come is carried out, and nothing in between is lost.
    pub async fn stop(self) {
        self.stop.cancel();
        // A panic was reported where it happened.
        let _ended = self.running.await;
    }
}

impl Shared {
    /// Listens until it is stopped, in one session with Redis after another.
    async fn run(self: Arc<Self>) {
        let mut delay = RETRY.0;
        loop {
            let why = tokio::select! {
                () = self.stop.cancelled() => return,
                opened = Session::open(&self) => match opened {
                    Ok(session) => {
                        delay = RETRY.0;
                        session.serve(&self).await
                    }
                    Err(why) => Some(why),
                },
            };
            self.turn.lose();
            self.count(EmitterSource::PubSub, EmitterOutcome::Dropped, self.intake.clear());
            let Some(why) = why else { return };
            if delay == RETRY.0 {
                tracing::warn!(reason = why, "emitters are not heard: connecting anew");
            }
            sleep(delay).await;
            delay = (delay * 2).min(RETRY.1);
        }
    }

    fn reader(&self) -> Reader<'_> {
        let max = usize::try_from(self.app.config.max_payload).unwrap_or(usize::MAX);
        Reader { prefix: &self.names.prefix, registry: &self.app.registry, max }
    }

    fn count(&self, source: EmitterSource, outcome: EmitterOutcome, count: usize) {
        self.app.metrics.emitted(source, outcome, count);
    }

    /// Notes what cannot be read. Anybody who may publish in Redis can cause it: the log leaves most lines out.
    fn note_unfit(&self, source: EmitterSource, place: &str, error: &Unfit) {
        let place = place.chars().take(100).collect::<String>();
        tracing::warn!(place, %error, "what an emitter sent is not understood");
        self.count(source, EmitterOutcome::Unfit, 1);
    }

    fn note_refused(&self, source: EmitterSource, refusal: &Refusal) {
        let (code, message) = (refusal.code.as_str(), &refusal.message);
        tracing::warn!(code, %message, "what an emitter sent was refused");
        self.count(source, EmitterOutcome::Refused, 1);
    }
}
