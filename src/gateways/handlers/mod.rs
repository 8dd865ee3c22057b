//! The application's own backend: it answers clients' events, says who they are, and is told when they go.
//!
//! An event that `HANDLER_EVENTS` names is posted to `HANDLER_URL`; the answer is read as a whole, and then carried
//! out. Invariants:
//! - one client's events are asked one after the other, by its inbox, its other events among them;
//! - at most `HANDLER_CONCURRENCY` requests are under way; the others wait for at most `HANDLER_TIMEOUT`;
//! - no request is sent again that the backend may have begun, and none to another address;
//! - an answer that is not valid as a whole changes nothing.

mod answer;
mod apply;
mod arrival;
mod call;
mod emit;
mod later;
mod question;

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::FutureExt;
use serde_json::value::RawValue;
use tokio::{runtime::Handle, time::Instant};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub use self::arrival::{Admission, First, Newcomer};
use self::{
    answer::{Ack, Answer, Introduction, Place, Rooms, Step, Todo},
    apply::Asked,
    arrival::Visit,
    call::{Backend, Failure, Kind},
    later::Later,
    question::{Facts, Question, empty},
};
use crate::{
    commands::event::{Begun, Caller, ClientEvent},
    config::{Config, Patterns},
    hub::{Client, Registry, Said, Session},
    limits::{MAX_DEPTH, is_deeper_than},
    protocol::{
        event_names::is_protocol_event,
        names::RoomName,
        payload::{Payload, raw, tagged::to_tagged},
        permissions::Permissions,
        refusal::{Code, Refusal},
    },
    telemetry::metrics::Metrics,
};

/// The word for all events that the contract does not name.
const DEFAULT: &str = "default";

/// How long a client's events are still asked after it has gone. Until then it counts as connected.
const AFTER_THE_END: Duration = Duration::from_secs(30);

/// How many clients' ends may wait to be told. Further ones are not told.
const MAX_ENDS: usize = 16_384;

/// The greatest size of a handshake that is kept, in bytes.
const MAX_HANDSHAKE: usize = 64_000;

/// The application's backend. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handlers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    backend: Backend,
    events: Patterns,
    connects: bool,
    disconnects: bool,
    headers: Patterns,
    keeps_handshake: bool,
    /// The permissions of a user of whose rooms nobody says anything.
    user_permissions: Permissions,
    node: String,
    later: Later,
    ends: AtomicUsize,
}

impl Handlers {
    /// The backend that the configuration names, if it names one.
    ///
    /// # Errors
    /// When requests cannot be made at all.
    pub fn new(config: &Config, node: &str, metrics: Arc<Metrics>) -> Result<Option<Self>, String> {
        let Some(url) = &config.handler_url else { return Ok(None) };
        Ok(Some(Self(Arc::new(Inner {
            backend: Backend::new(config, url, metrics)?,
            events: config.handler_events.clone(),
            connects: config.handler_connect,
            disconnects: config.handler_disconnect,
            headers: config.handler_headers.clone(),
            keeps_handshake: config.handler_handshake,
            user_permissions: config.rooms_default.permissions(),
            node: node.to_owned(),
            later: Later::default(),
            ends: AtomicUsize::new(0),
        }))))
    }

    /// What `/health` says of the backend.
    pub fn state(&self) -> Cow<'static, str> {
        self.0.backend.state()
    }

    /// Whether the backend answers this event; `is_known`: the contract names it.
    pub fn answers(&self, event: &str, is_known: bool) -> bool {
        let events = &self.0.events;
        let is_default = !is_known && events.has(DEFAULT);
        // Socket.IO's own are no client's to send.
        !is_protocol_event(event) && (is_default || events.matches(event))
    }

    /// Whether the backend says who a new client is.
    pub fn connects(&self) -> bool {
        self.0.connects
    }

    /// Whether handshakes are read.
    pub fn reads_handshakes(&self) -> bool {
        self.0.connects || self.0.keeps_handshake
    }

    /// Whether the backend gets this header of a handshake; its name is in lower case.
    pub fn gets_header(&self, name: &str) -> bool {
        self.0.headers.matches(name)
    }

    /// The handshake as it is kept for the client's events, if it is.
    ///
    /// # Errors
    /// `too_large`.
    pub fn kept_handshake(&self, handshake: &RawValue) -> Result<Option<Arc<RawValue>>, Refusal> {
        if !self.0.keeps_handshake {
            return Ok(None);
        }
        if handshake.get().len() > MAX_HANDSHAKE {
            let message = format!("the handshake is larger than {MAX_HANDSHAKE} bytes");
            return Err(Refusal::new(Code::TooLarge, message));
        }
        Ok(Some(handshake.to_owned().into()))
    }

    /// Begins an event that the backend [answers](Self::answers). `arguments` is an array of all of them.
    pub fn begin(
        &self,
        caller: Caller,
        name: &str,
        known: Option<&'static ClientEvent>,
        arguments: Payload,
    ) -> Begun {
        if is_deeper_than(MAX_DEPTH + 1, &arguments.json()) {
            let message = format!("the arguments are nested deeper than {MAX_DEPTH} levels");
            return Begun::refused(Refusal::invalid(message));
        }
        let asked = Asked { name: name.to_owned(), arguments, known };
        let handlers = self.clone();
        Begun {
            work: async move { handlers.event(caller, asked).await }.boxed(),
            is_pipelined: false,
        }
    }

    async fn event(self, caller: Caller, asked: Asked) -> Result<Option<Payload>, Refusal> {
        let Caller { context, client, ack } = &caller;
        let handlers = &self.0;
        let id = Uuid::new_v4().to_string();
        let mut charge = None;
        let body = || {
            // Made only now: who waits for a place holds its arguments once.
            let tagged = to_tagged(&asked.arguments).map(raw).unwrap_or_default();
            let handshake = client.handshake();
            let facts = Facts::of(client, client.rooms());
            let question = Question {
                event: Some(&asked.name),
                args: Some(&tagged),
                wants_ack: Some(ack.is_some()),
                handshake: handshake.as_deref(),
                ..Question::new(Kind::Event, &id, &handlers.node, &facts)
            };
            let body = question.bytes();
            charge = client.sender.account().charge_incoming(body.len());
            body
        };
        let place = Place { registry: &context.registry, namespace: &client.namespace };
        let within = time_left(client)?;
        let read = |reply| Answer::read(reply, &place);
        let answer = handlers.backend.ask(Kind::Event, &id, within, body, read).await?;
        drop(charge);
        match answer {
            Answer::Refused(refusal) => Err(refusal),
            Answer::Todo(todo) => apply::to_event(caller, &asked, *todo).await.map(|()| None),
            Answer::Later => {
                let (context, client, ack) = (context.clone(), client.clone(), *ack);
                // An event of the contract goes on; only its acknowledgement comes from the backend.
                let todo = Todo { ack: Ack::Nothing, ..Todo::default() };
                apply::to_event(caller, &asked, todo).await?;
                if let Some(ack) = ack {
                    handlers.later.wait(&context, id, &client, ack, asked.name);
                }
                Ok(None)
            }
        }
    }

    /// Acknowledges an event whose acknowledgement was to come later; false if no client here waits for it.
    pub fn acknowledge(&self, id: &str, arguments: &Payload) -> bool {
        self.0.later.acknowledge(id, arguments)
    }

    /// Asks who a new client is.
    ///
    /// # Errors
    /// What the backend says, if it does not let the client in; `unavailable` if it does not answer.
    pub async fn connect(
        &self,
        registry: &Registry,
        tasks: &TaskTracker,
        newcomer: Newcomer<'_>,
    ) -> Result<Admission, Refusal> {
        let Newcomer { id: client_id, namespace, name: given_name, .. } = newcomer;
        let Newcomer { address, transport, session, handshake, .. } = newcomer;
        let id = Uuid::new_v4().to_string();
        let facts = Facts {
            client_id: client_id.clone(),
            user_id: session.user.clone(),
            client_name: given_name.clone(),
            namespace: namespace.path.clone(),
            rooms: Vec::new(),
            transport,
            address,
            claims: session.claims.clone(),
            data: empty(),
        };
        let body = || {
            let question = Question {
                handshake: Some(handshake),
                ..Question::new(Kind::Connect, &id, &self.0.node, &facts)
            };
            question.bytes()
        };
        let place = Place { registry, namespace };
        let read = |reply| match Answer::read(reply, &place)? {
            Answer::Later => Err("202 has no meaning for connect".to_owned()),
            answer => Ok(answer),
        };
        let within = self.0.backend.timeout();
        match self.0.backend.ask(Kind::Connect, &id, within, body, read).await? {
            Answer::Refused(refusal) => Err(refusal),
            Answer::Later => Err(Failure::Invalid(String::new()).into()),
            Answer::Todo(mut todo) => {
                let mut introduction = todo.client.take().unwrap_or_default();
                let name = introduction.name.take();
                let rooms = std::mem::take(&mut introduction.join).into();
                todo.steps.insert(0, Step::Join(Rooms { rooms, is_silent: false }));
                let session = self.introduced(session, introduction);
                let gone = Facts {
                    user_id: session.user.clone(),
                    client_name: name.as_deref().map_or(facts.client_name, Arc::from),
                    claims: session.claims.clone(),
                    data: todo.data.clone().unwrap_or(facts.data),
                    ..facts
                };
                let runtime = Handle::current();
                let (handlers, tasks) = (self.clone(), tasks.clone());
                let visit = Visit { handlers, tasks, runtime, gone: Some(gone.into()) };
                Ok(Admission { session, name, first: First { todo, visit } })
            }
        }
    }

    /// The session of a client whom the backend has introduced.
    fn introduced(&self, session: Session, introduction: Introduction) -> Session {
        let Introduction { user, permissions, expires_at, claims, .. } = introduction;
        let said = Said {
            permissions: permissions.is_some(),
            expires_at: expires_at.is_some(),
            claims: claims.is_some(),
        };
        let default = match (&session.user, &user) {
            (None, Some(_)) => self.0.user_permissions.clone(),
            _ => session.permissions,
        };
        Session {
            user: user.or(session.user),
            permissions: permissions.unwrap_or(default),
            join: session.join,
            expires_at: expires_at.or(session.expires_at),
            issued: session.issued,
            claims: claims.or(session.claims),
            said,
        }
    }

    /// Tells the backend, once, that a client has gone that was in these rooms. Nobody waits for it.
    pub fn disconnected(
        &self,
        tasks: &TaskTracker,
        client: &Client,
        rooms: Vec<RoomName>,
        reason: &str,
    ) {
        if self.0.disconnects && client.tell_end_once() {
            let facts = Facts::of(client, rooms);
            self.tell_end(tasks, &Handle::current(), facts, reason.to_owned());
        }
    }

    fn tell_end(&self, tasks: &TaskTracker, runtime: &Handle, gone: Facts, reason: String) {
        if !self.0.disconnects {
            return;
        }
        if self.0.ends.fetch_add(1, Relaxed) >= MAX_ENDS {
            self.0.ends.fetch_sub(1, Relaxed);
            tracing::warn!(
                "too many clients have disconnected at once: the application's backend is not notified of all of them"
            );
            return;
        }
        let handlers = self.clone();
        let telling = async move {
            let id = Uuid::new_v4().to_string();
            let body = || {
                let question = Question {
                    reason: Some(&reason),
                    ..Question::new(Kind::Disconnect, &id, &handlers.0.node, &gone)
                };
                question.bytes()
            };
            let within = handlers.0.backend.timeout();
            let backend = &handlers.0.backend;
            // At most once: a failure is counted and logged. What the answer says is not carried out.
            let _told = backend.ask(Kind::Disconnect, &id, within, body, |_| Ok(())).await;
            handlers.0.ends.fetch_sub(1, Relaxed);
        };
        tasks.spawn_on(telling, runtime);
    }
}

/// How long an event may wait for the backend: after its client has gone, less and less.
fn time_left(client: &Client) -> Result<Duration, Refusal> {
    let Some(gone) = client.gone_at() else { return Ok(Duration::MAX) };
    let left = (gone + AFTER_THE_END).saturating_duration_since(Instant::now());
    if left.is_zero() {
        let message = "the client has disconnected, and its events have waited too long";
        return Err(Refusal::new(Code::Unavailable, message));
    }
    Ok(left)
}
