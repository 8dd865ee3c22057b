//! What all clients' events share: how they are parsed and run, and how each describes itself.

use std::{future::ready, sync::Arc};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use serde_json::value::RawValue;

use super::{context::Context, schema::Schemas};
use crate::{
    hub::Client,
    protocol::{
        payload::{Argument, Object, Payload},
        refusal::{Code, Refusal},
    },
};

/// The codes with which the server may refuse any event.
pub const ANY_EVENT: [Code; 3] = [Code::InvalidPayload, Code::RateLimited, Code::Unavailable];

/// One feature: the events that belong together, with the schemas of what they carry.
pub struct Feature {
    /// What clients send.
    pub client: &'static [ClientEvent],
    /// What the server sends.
    pub server: &'static [ServerEvent],
    /// The schemas that these events name, and no other feature describes.
    pub schemas: fn() -> Schemas,
}

/// An event that clients send.
pub struct ClientEvent {
    /// Its name on the wire.
    pub name: &'static str,
    /// The schema of its argument.
    pub argument: &'static str,
    /// The schema of its acknowledgement on success.
    pub ack: &'static str,
    /// What it is for, in one line of Markdown.
    pub summary: &'static str,
    /// A valid argument, as JSON text; empty for none.
    pub example: &'static str,
    /// The codes of its own refusals, besides those that [every event](ANY_EVENT) may get.
    pub refusals: &'static [Code],
    begin: fn(&Incoming<'_>, Caller) -> Begun,
    #[cfg(test)]
    pub(super) parse: fn(&Incoming<'_>) -> Result<(), Refusal>,
}

impl ClientEvent {
    /// The event `name`, implemented by `E`.
    pub(super) const fn new<E: Event>(
        name: &'static str,
        argument: &'static str,
        ack: &'static str,
        summary: &'static str,
    ) -> Self {
        Self {
            name,
            argument,
            ack,
            summary,
            example: "",
            refusals: &[],
            begin: begin::<E>,
            #[cfg(test)]
            parse: |incoming| E::parse(incoming).map(drop),
        }
    }

    /// The same with an example of its argument.
    pub(super) const fn example(self, example: &'static str) -> Self {
        Self { example, ..self }
    }

    /// The same with the codes of its own refusals.
    pub(super) const fn refusals(self, refusals: &'static [Code]) -> Self {
        Self { refusals, ..self }
    }

    /// Begins an event, or refuses it.
    pub fn begin(&self, incoming: &Incoming<'_>, caller: Caller) -> Begun {
        (self.begin)(incoming, caller)
    }
}

/// An event that the server sends by itself.
pub struct ServerEvent {
    /// Its name on the wire.
    pub name: &'static str,
    /// The schema of its argument.
    pub payload: &'static str,
    /// When it is sent, in one line of Markdown.
    pub summary: &'static str,
    /// Who receives it, in one line of Markdown.
    pub receivers: &'static str,
    /// An argument as the server sends it, as JSON text.
    pub example: &'static str,
    /// Whether it carries a message, so that a backend may send it, too. All others tell a client its state,
    /// and only the server itself may send them.
    pub is_message: bool,
}

impl ServerEvent {
    /// An event that tells a client its state.
    pub(super) const fn state(
        name: &'static str,
        payload: &'static str,
        summary: &'static str,
    ) -> Self {
        Self { name, payload, summary, receivers: "", example: "", is_message: false }
    }

    /// An event that carries a message.
    pub(super) const fn message(
        name: &'static str,
        payload: &'static str,
        summary: &'static str,
    ) -> Self {
        Self { is_message: true, ..Self::state(name, payload, summary) }
    }

    /// The same with who receives it.
    pub(super) const fn to(self, receivers: &'static str) -> Self {
        Self { receivers, ..self }
    }

    /// The same with an example of its argument.
    pub(super) const fn example(self, example: &'static str) -> Self {
        Self { example, ..self }
    }
}

/// The valid arguments of an event, and its effect.
pub(super) trait Event: Sized + Send + 'static {
    /// Reads the one argument.
    ///
    /// # Errors
    /// `no_room`, `invalid_payload`, `forbidden`, as the contract says.
    fn parse(incoming: &Incoming<'_>) -> Result<Self, Refusal>;

    /// Whether the client's next event may begin before this one is done. If so, [`run`](Self::run) settles
    /// this event's place in the order before it returns its future.
    fn is_pipelined(&self) -> bool {
        false
    }

    /// Runs the event.
    ///
    /// # Errors
    /// As the event's own documentation says. A refused event has changed nothing.
    fn run(self, caller: Caller) -> impl Future<Output = Outcome> + Send + 'static;
}

/// The result of an event: its acknowledgement, or its refusal. `None`: there is nothing to acknowledge, or it has
/// acknowledged itself.
pub type Outcome = Result<Option<Payload>, Refusal>;

/// An event that was begun.
pub struct Begun {
    /// The work that remains.
    pub work: BoxFuture<'static, Outcome>,
    /// Whether the client's next event may begin before this one is done.
    pub is_pipelined: bool,
}

impl Begun {
    /// An event that was refused before it began.
    pub fn refused(refusal: Refusal) -> Self {
        Self { work: ready(Err(refusal)).boxed(), is_pipelined: false }
    }
}

fn begin<E: Event>(incoming: &Incoming<'_>, caller: Caller) -> Begun {
    match E::parse(incoming) {
        Ok(event) => {
            let is_pipelined = event.is_pipelined();
            Begun { work: event.run(caller).boxed(), is_pipelined }
        }
        Err(refusal) => Begun::refused(refusal),
    }
}

/// The client that sent an event, and how to acknowledge it.
pub struct Caller {
    /// What commands need.
    pub context: Context,
    /// The client.
    pub client: Arc<Client>,
    /// The number to acknowledge the event with, where the client asks for that.
    pub ack: Option<i64>,
}

/// An event as it arrived.
pub struct Incoming<'a> {
    name: &'a str,
    argument: Argument<'a>,
    /// The attachments that its placeholders refer to.
    attachments: Arc<[Bytes]>,
    /// The argument that the client sent, where the application's backend has put another in its place.
    origin: Option<&'a Payload>,
}

impl<'a> Incoming<'a> {
    /// An event with this first argument; a missing one counts as `null`.
    pub fn new(name: &'a str, argument: Option<Argument<'a>>, attachments: Arc<[Bytes]>) -> Self {
        Self { name, argument: argument.unwrap_or(Argument::NULL), attachments, origin: None }
    }

    /// The same in the place of what the client sent.
    #[must_use]
    pub fn instead_of(self, origin: &'a Payload) -> Self {
        Self { origin: Some(origin), ..self }
    }

    /// What the client sent, where the application's backend has put something else in its place.
    pub(super) fn origin(&self) -> Option<&'a Payload> {
        self.origin
    }

    /// The event's name.
    pub(super) fn name(&self) -> &'a str {
        self.name
    }

    /// The argument, in JSON.
    pub(super) fn argument(&self) -> &'a str {
        self.argument.text()
    }

    /// The argument with its attachments.
    pub(super) fn payload(&self) -> Result<Payload, Refusal> {
        Payload::of_argument(&self.argument, self.attachments.clone())
    }

    /// The argument, which is this object, without one of its fields.
    pub(super) fn payload_without(
        &self,
        object: &Object<'_>,
        field: &str,
    ) -> Result<Payload, Refusal> {
        Payload::of_object_without(object, field, self.attachments.clone())
    }

    /// A part of the argument, with its attachments.
    pub(super) fn payload_of(&self, part: &RawValue) -> Result<Payload, Refusal> {
        Payload::with_attachments(part.to_owned(), self.attachments.clone())
    }

    /// The argument as an object, if it is one.
    ///
    /// A placeholder of an attachment is refused: receivers replace it by the attachment's bytes, and would
    /// lose every field that the server adds.
    pub(super) fn object_if_any(&self) -> Result<Option<&Object<'a>>, Refusal> {
        match self.argument.object() {
            Some(object) if object.is_placeholder() => Err(Refusal::invalid(
                "the payload must be an object and not itself binary: put the attachment into one of its fields",
            )),
            object => Ok(object),
        }
    }

    /// The argument, which must be an object.
    pub(super) fn object(&self) -> Result<&Object<'a>, Refusal> {
        self.object_if_any()?.ok_or_else(|| Refusal::invalid("the payload must be an object"))
    }
}
