//! What operators do to clients.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use crate::{
    commands::{is_state_event, membership_command::MembershipCommand},
    gateways::{app::App, socketio::change_membership},
    hub::{Client, Namespace, packet::Packet},
    protocol::{
        audience::Except,
        event_names::is_protocol_event,
        names::RoomName,
        payload::Payload,
        refusal::{Code, Refusal},
    },
};

/// Runs an operator's event, whose name and arguments `text` has in JSON; returns the number of clients that
/// it applies to.
///
/// Each client's own inbox changes its memberships, behind what the client has sent. A change may still be
/// refused there, as if the client had asked for it.
///
/// # Errors
/// `unknown_event`, `invalid_payload`, `not_found` for a namespace.
pub(super) fn run(app: &App, text: &str, attachments: Arc<[Bytes]>) -> Result<usize, Refusal> {
    let event: Vec<&RawValue> =
        serde_json::from_str(text).map_err(|_| Refusal::invalid("an event must be an array"))?;
    let Some((name, arguments)) = event.split_first() else {
        return Err(Refusal::invalid("an event must have a name"));
    };
    let name = serde_json::from_str::<String>(name.get())
        .map_err(|_| Refusal::invalid("an event's name must be a string"))?;
    let given = Arguments { event: &name, all: arguments };
    let clients = match name.as_str() {
        "join" => {
            let (namespace, room) = (given.namespace(app)?, given.room(1)?);
            let rooms = Arc::from([room]);
            let join = MembershipCommand::Join { rooms, is_granted: false };
            give(&given.clients(&namespace, 2)?, &join)
        }
        "leave" => {
            let (namespace, room) = (given.namespace(app)?, given.room(1)?);
            let leave = MembershipCommand::Leave { rooms: Arc::from([room]) };
            give(&given.clients(&namespace, 2)?, &leave)
        }
        "_disconnect" => {
            let namespace = given.namespace(app)?;
            disconnect(app, &given.clients(&namespace, 2)?, given.flag(1)?)
        }
        "emit" => {
            let namespace = given.namespace(app)?;
            let packet = given.packet(2, attachments)?;
            let clients = given.clients(&namespace, 1)?;
            app.broker.here.to_clients(&clients, &packet, &Except::nobody())
        }
        _ => {
            let message = format!("the Admin UI has no event {name:?}");
            return Err(Refusal::new(Code::UnknownEvent, message));
        }
    };
    let whom = arguments.iter().map(|argument| argument.get()).take(3).collect::<Vec<_>>();
    tracing::info!(command = name, arguments = whom.join(" "), clients, "done by an operator");
    Ok(clients)
}

fn give(clients: &[Arc<Client>], command: &MembershipCommand) -> usize {
    // The operator does not wait for the outcome.
    let give =
        |client: &&Arc<Client>| change_membership(client, command.clone(), oneshot::channel().0);
    clients.iter().filter(give).count()
}

/// Disconnects the clients from their namespace, or from all that they are in.
fn disconnect(app: &App, clients: &[Arc<Client>], close: bool) -> usize {
    let ended: &[_] = if close { &app.registry.on_connections_of(clients) } else { clients };
    for client in ended {
        client.sender.disconnect();
    }
    clients.len()
}

/// The arguments of an event, by their places.
struct Arguments<'a> {
    event: &'a str,
    all: &'a [&'a RawValue],
}

impl Arguments<'_> {
    /// `null`, which stands for JavaScript's `undefined`, counts as absent.
    fn get(&self, at: usize) -> Option<&RawValue> {
        self.all.get(at).copied().filter(|value| value.get() != "null")
    }

    fn text(&self, at: usize, what: &str) -> Result<Option<String>, Refusal> {
        let Some(value) = self.get(at) else { return Ok(None) };
        let text = serde_json::from_str(value.get());
        text.map(Some).map_err(|_| self.fault(format_args!("{what} must be a string")))
    }

    fn needed(&self, at: usize, what: &str) -> Result<String, Refusal> {
        let text = self.text(at, what)?;
        text.ok_or_else(|| self.fault(format_args!("{what} is missing")))
    }

    fn namespace(&self, app: &App) -> Result<Arc<Namespace>, Refusal> {
        let path = self.needed(0, "the namespace")?;
        app.registry
            .address(&path)
            .ok_or_else(|| Refusal::new(Code::NotFound, format!("there is no namespace {path:?}")))
    }

    fn room(&self, at: usize) -> Result<RoomName, Refusal> {
        let room = self.needed(at, "the room")?;
        RoomName::parse(&room).map_err(|error| self.fault(format_args!("the room {error}")))
    }

    fn flag(&self, at: usize) -> Result<bool, Refusal> {
        match self.get(at).map(RawValue::get) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(self.fault("whether to close must be true or false")),
        }
    }

    /// The client of this id, else the members of this room; everybody if none is named.
    fn clients(&self, namespace: &Namespace, at: usize) -> Result<Vec<Arc<Client>>, Refusal> {
        let Some(filter) = self.text(at, "the room or client")? else {
            return Ok(namespace.clients());
        };
        if let Some(client) = filter.parse().ok().and_then(|id| namespace.client(&id)) {
            return Ok(vec![client]);
        }
        let Some(room) = namespace.room(&filter) else { return Ok(Vec::new()) };
        let members = room.lock();
        Ok(members.members().map(|member| member.client.clone()).collect())
    }

    /// The event for clients that is named at `at`, with the argument behind it.
    fn packet(&self, at: usize, attachments: Arc<[Bytes]>) -> Result<Packet, Refusal> {
        let event = self.needed(at, "the event")?;
        if event.is_empty() || is_protocol_event(&event) || is_state_event(&event) {
            return Err(self.fault(format_args!(
                "{event:?} is no event to be sent: Socket.IO's own and those by which the server \
                 tells a client its state are reserved"
            )));
        }
        if self.all.len() > at + 2 {
            return Err(self.fault("an event has one argument: put everything into one object"));
        }
        let data = self.all.get(at + 1).copied().unwrap_or(RawValue::NULL).to_owned();
        Ok(Packet::new(event, Payload::with_attachments(data, attachments)?))
    }

    fn fault(&self, what: impl std::fmt::Display) -> Refusal {
        Refusal::invalid(format!("{}: {what}", self.event))
    }
}
