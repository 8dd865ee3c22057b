//! What all events of clients have in common: how they come in, and what each says of itself.

use std::{future::ready, sync::Arc};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use serde_json::value::RawValue;

use super::{context::Context, schema::Schemas};
use crate::{
    hub::Client,
    protocol::{
        payload::{Object, Payload},
        refusal::Refusal,
    },
};

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
    /// The schema of its acknowledgement where it was honoured.
    pub ack: &'static str,
    /// What it is for, in one line of Markdown.
    pub summary: &'static str,
    begin: fn(&Incoming<'_>, Caller) -> Begun,
    #[cfg(test)]
    pub(super) parse: fn(&Incoming<'_>) -> Result<(), Refusal>,
}

impl ClientEvent {
    /// The event `name`, which `E` carries out.
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
            begin: begin::<E>,
            #[cfg(test)]
            parse: |incoming| E::parse(incoming).map(drop),
        }
    }

    /// Begins what an event asks for, or refuses it.
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
    /// Whether it carries a message, so that a backend may send it, too. All others tell a client its state:
    /// only the server itself may send them.
    pub is_message: bool,
}

impl ServerEvent {
    /// An event that tells a client its state.
    pub(super) const fn state(
        name: &'static str,
        payload: &'static str,
        summary: &'static str,
    ) -> Self {
        Self { name, payload, summary, is_message: false }
    }

    /// An event that carries a message.
    pub(super) const fn message(
        name: &'static str,
        payload: &'static str,
        summary: &'static str,
    ) -> Self {
        Self { name, payload, summary, is_message: true }
    }
}

/// The arguments of an event, valid; and what they bring about.
pub(super) trait Event: Sized + Send + 'static {
    /// Reads the first argument; further ones are not looked at.
    ///
    /// # Errors
    /// `no_room`, `invalid_payload`, `forbidden`: what the contract says of it.
    fn parse(incoming: &Incoming<'_>) -> Result<Self, Refusal>;

    /// Whether the client's next event may begin before this one is done: what decides about the order is
    /// then done before [`run`](Self::run) returns its future.
    fn is_pipelined(&self) -> bool {
        false
    }

    /// Carries it out.
    ///
    /// # Errors
    /// As the event's own documentation says. Then it has changed nothing.
    fn run(self, caller: Caller) -> impl Future<Output = Outcome> + Send + 'static;
}

/// What came of an event: its acknowledgement, or why it was refused. `None`: it has acknowledged itself.
pub type Outcome = Result<Option<Payload>, Refusal>;

/// An event that was begun.
pub struct Begun {
    /// The rest of it.
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

/// The client that sent an event, and how it wants to be answered.
pub struct Caller {
    /// What commands need.
    pub context: Context,
    /// The client.
    pub client: Arc<Client>,
    /// The number to acknowledge the event with, where the client asks for that.
    pub ack: Option<i64>,
}

impl Caller {
    /// Acknowledges the event now, where the client asks for that: it is then not acknowledged again.
    pub(super) fn acknowledge(&self, answer: &Payload) {
        if let Some(id) = self.ack {
            self.client.sender.acknowledge(id, answer);
        }
    }
}

/// An event as it came.
pub struct Incoming<'a> {
    name: &'a str,
    /// The first argument, in JSON.
    argument: &'a RawValue,
    /// What the placeholders in it refer to.
    attachments: Arc<[Bytes]>,
}

impl<'a> Incoming<'a> {
    /// An event with this first argument: without one it is as one with `null`.
    pub fn new(name: &'a str, argument: Option<&'a RawValue>, attachments: Arc<[Bytes]>) -> Self {
        Self { name, argument: argument.unwrap_or(RawValue::NULL), attachments }
    }

    /// The event's name.
    pub(super) fn name(&self) -> &'a str {
        self.name
    }

    /// The argument, in JSON.
    pub(super) fn argument(&self) -> &'a RawValue {
        self.argument
    }

    /// The argument with its attachments.
    pub(super) fn payload(&self) -> Result<Payload, Refusal> {
        self.payload_of(self.argument)
    }

    /// A part of the argument, with its attachments.
    pub(super) fn payload_of(&self, part: &RawValue) -> Result<Payload, Refusal> {
        Payload::with_attachments(part.to_owned(), self.attachments.clone())
    }

    /// The argument as an object, if it is one.
    ///
    /// An object that stands for an attachment is refused: receivers put the attachment's bytes in its
    /// place, and nothing that the server has put inside would reach them.
    pub(super) fn object_if_any(&self) -> Result<Option<Object<'a>>, Refusal> {
        match Object::parse(self.argument.get()) {
            Some(object) if object.is_placeholder() => Err(Refusal::invalid(
                "the payload must be an object and not itself binary: put the attachment into one of its fields",
            )),
            object => Ok(object),
        }
    }

    /// The argument, which must be an object.
    pub(super) fn object(&self) -> Result<Object<'a>, Refusal> {
        self.object_if_any()?.ok_or_else(|| Refusal::invalid("the payload must be an object"))
    }
}
