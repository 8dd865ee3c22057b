//! What a client's inbox does with an item: an event is read, handed to its command, and answered.

use std::{
    future::{Future, ready},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};

use super::{
    connection::Connection,
    guard::{catch_panic, catch_panic_async, failpoint},
    inbox::Item,
};
use crate::{
    commands::{
        client_event, client_events, connection_recovery,
        event::{Begun, Caller, ClientEvent, Incoming, Outcome},
        membership,
    },
    hub::Client,
    limits::{MAX_DEPTH, is_deeper_than},
    memory::Charge,
    protocol::{
        payload::{Argument, Payload, raw, read_event},
        refusal::{Code, Refusal},
    },
    telemetry::metrics::Limit,
};

/// How much of an unknown event's name a refusal repeats, in Unicode code points.
const MAX_SHOWN: usize = 50;

/// Work that was begun for a client.
pub(super) struct Task {
    /// The work that remains, with the answer at the end.
    pub work: BoxFuture<'static, ()>,
    /// Whether the next item may begin before this work is done.
    pub is_pipelined: bool,
}

impl Task {
    fn alone(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { work: Box::pin(work), is_pipelined: false }
    }
}

/// What the answer to an event needs of it.
struct Asked {
    name: String,
    /// The number to acknowledge it with.
    ack: Option<i64>,
    /// When it came.
    came: Instant,
    /// Its bytes, charged until it is answered.
    _charge: Charge,
}

impl Connection {
    /// Begins an item: a message to a room is handed over during this call, all else waits for the work to be
    /// polled. The inbox calls this for one item after the other.
    pub(super) fn begin(self: &Arc<Self>, item: Item) -> Task {
        let Some(client) = self.client.get().cloned() else { return Task::alone(ready(())) };
        let of = self.clone();
        let (text, attachments, ack, came, charge) = match item {
            Item::Event { text, attachments, ack, came, charge } => {
                (text, attachments, ack, came, charge)
            }
            Item::Membership(command, done) => {
                return Task::alone(async move {
                    membership::apply_and_tell(&of.app, &client, command, done).await;
                });
            }
            Item::Admitted(first) => {
                return Task::alone(async move {
                    first.carry_out(&of.app, &client).await;
                });
            }
            Item::Back(claim) => {
                return Task::alone(async move {
                    connection_recovery::recover(&of.app, &client, claim).await;
                });
            }
            Item::Gone(reason) => return Task::alone(async move { of.on_gone(&client, reason) }),
        };
        let (name, arguments) = read_event(text.as_str()).map_or_else(
            || (String::new(), Err(no_event())),
            |(name, arguments)| (name, Ok(arguments)),
        );
        let begun = catch_panic(|| {
            failpoint(&client, &name);
            let arguments = match arguments {
                Ok(arguments) => arguments,
                Err(refusal) => return Begun::refused(refusal),
            };
            let event = client_event(&name);
            self.note(&client, event, &name, text.as_str());
            if let Some(refusal) = event.and_then(|_| more_than_one(&arguments)) {
                return Begun::refused(refusal);
            }
            if let Some(handlers) = &self.app.handlers
                && handlers.answers(&name, event.is_some())
            {
                let caller =
                    Caller { context: self.app.context.clone(), client: client.clone(), ack };
                return match all_arguments(&arguments, attachments) {
                    Ok(arguments) => handlers.begin(caller, &name, event, arguments),
                    Err(refusal) => Begun::refused(refusal),
                };
            }
            if arguments.iter().any(|argument| is_deeper_than(MAX_DEPTH, argument.text())) {
                return Begun::refused(Refusal::invalid(format!(
                    "the payload is nested deeper than {MAX_DEPTH} levels"
                )));
            }
            let Some(event) = event else { return Begun::refused(unknown(&name)) };
            let incoming = Incoming::new(&name, arguments.into_iter().next(), attachments);
            let caller = Caller { context: self.app.context.clone(), client: client.clone(), ack };
            event.begin(&incoming, caller)
        });
        let is_pipelined = begun.as_ref().is_some_and(|begun| begun.is_pipelined);
        let work = match begun {
            Some(begun) => catch_panic_async(begun.work).left_future(),
            None => ready(None).right_future(),
        };
        let asked = Asked { name, ack, came, _charge: charge };
        // Made of combinators, because an `async` block would hold its captures twice.
        let work = Box::pin(work.map(move |done| of.answered(&asked, done)));
        Task { work, is_pipelined }
    }

    /// Counts the event, and notifies the observer.
    fn note(&self, client: &Client, event: Option<&ClientEvent>, name: &str, text: &str) {
        // Clients choose the names: only known ones may become labels.
        self.app.metrics.received(event.map_or("unknown", |event| event.name));
        client.touch();
        tracing::debug!(client = %client.id, event = ?name, bytes = text.len(), "event");
        if let Some(observer) = &self.app.observer {
            observer.received(client, name, text);
        }
    }

    /// Tells the client the result of its event; `None`: the event panicked.
    fn answered(&self, asked: &Asked, done: Option<Outcome>) {
        let Asked { name, ack, came, .. } = asked;
        let Some(client) = self.client.get() else { return };
        let done = done.unwrap_or_else(|| {
            self.app.metrics.panicked();
            tracing::error!(client = %client.id, event = name, "a panic ended this event");
            let message = "an internal error ended this event; parts of it may have taken effect";
            Err(Refusal::new(Code::Unavailable, message))
        });
        match done {
            Ok(Some(answer)) => client.acknowledge(*ack, &answer),
            Ok(None) => {}
            Err(refusal) => {
                if refusal.code == Code::RateLimited {
                    // The only rate limit that an event itself checks.
                    self.app.metrics.limited(Limit::Authentication);
                }
                self.refuse(client, name, *ack, &refusal);
            }
        }
        self.app.metrics.answered(came.elapsed());
    }
}

fn no_event() -> Refusal {
    Refusal::invalid("an event must be a JSON array that begins with its name")
}

/// Why an event of the contract takes no more than one argument, where it has more. `null` counts as absent: it is what
/// the official client makes of an acknowledgement callback that is `undefined`.
fn more_than_one(arguments: &[Argument<'_>]) -> Option<Refusal> {
    let rest = arguments.get(1..)?;
    rest.iter().any(|argument| argument.text() != "null").then(|| {
        Refusal::invalid(format!(
            "the event has {} arguments and takes one: put all into one object",
            arguments.len()
        ))
    })
}

/// An event's arguments as one array.
fn all_arguments(
    arguments: &[Argument<'_>],
    attachments: Arc<[Bytes]>,
) -> Result<Payload, Refusal> {
    let size = arguments.iter().map(|argument| argument.text().len() + 1).sum::<usize>();
    let mut array = String::with_capacity(size + 2);
    array.push('[');
    for (at, argument) in arguments.iter().enumerate() {
        if at > 0 {
            array.push(',');
        }
        array.push_str(argument.text());
    }
    array.push(']');
    Payload::with_attachments(raw(array), attachments)
}

fn unknown(name: &str) -> Refusal {
    let mut shown = name.chars().take(MAX_SHOWN).collect::<String>();
    if shown.len() < name.len() {
        shown.push('…');
    }
    let mut known = client_events().map(|event| event.name).collect::<Vec<_>>();
    known.sort_unstable();
    let message = format!("unknown event \"{shown}\"; the events are {}", known.join(", "));
    Refusal::new(Code::UnknownEvent, message)
}
