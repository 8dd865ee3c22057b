//! A backend's events that clients acknowledge: sent to clients on all nodes, whose answers are awaited.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, future::try_join_all, stream::FuturesUnordered};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use super::{
    backend_event::{Audience, BackendEvent},
    context::Context,
    queries::Coverage,
};
use crate::{
    broker::survey::{Addressees, Survey},
    hub::{Client, acknowledgement, packet::Packet},
    protocol::{
        message_id::MessageId,
        payload::{Object, Payload, raw},
        refusal::{Code, Refusal},
    },
};

/// The most clients that one event may ask.
pub const MAX_ADDRESSEES: usize = 1000;

/// How many events may wait for acknowledgements at a time, on the node that was asked to send them.
pub const MAX_WAITING: usize = 64;

/// The most bytes of acknowledgements that a node keeps of one event. Clients beyond that count as late.
const MAX_BYTES: usize = 8_000_000;

/// How much longer than the clients the other nodes may take.
const TO_ANSWER: Duration = Duration::from_secs(1);

/// When a backend may try again that sends too many such events.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What came of an event.
#[derive(Debug)]
pub struct Acknowledged {
    /// The data's id if it has one, else the server's.
    pub id: MessageId,
    /// What the clients of all nodes answered.
    pub part: Part,
    /// Whether all nodes were asked.
    pub coverage: Coverage,
}

/// What the clients of one node answered.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Part {
    /// Those that answered, with their answers.
    pub responses: Vec<Response>,
    /// The clients that did not answer in time, or have disconnected.
    pub timed_out: Vec<String>,
}

/// A client's acknowledgement.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    /// The client.
    pub client_id: String,
    /// The arguments, in JSON; binary values are tagged.
    pub args: Box<RawValue>,
}

/// Sends an event once to each client, and waits for their acknowledgements for as long as `wait`. Nothing is
/// numbered, stored or queued.
///
/// # Errors
/// `invalid_payload` if there are too many clients: then nobody has it. `unavailable` if too many such events
/// wait already.
pub async fn send(
    context: &Context,
    event: BackendEvent,
    wait: Duration,
) -> Result<Acknowledged, Refusal> {
    let BackendEvent { namespace, event, data, is_list, audience, except, .. } = event;
    let Ok(_waiting) = context.acknowledgements.try_acquire() else {
        let message = format!(
            "{MAX_WAITING} events are already waiting for acknowledgements, which is the limit: try again later"
        );
        return Err(Refusal::new(Code::Unavailable, message).after(RETRY_AFTER));
    };
    let text = data.json();
    let id = Object::parse(&text).as_ref().map_or_else(MessageId::make, MessageId::of);
    let (everyone, (rooms, users, clients)) = match audience {
        Audience::Everyone => (true, Default::default()),
        Audience::These { rooms, users, clients } => (false, (rooms, users, clients)),
    };
    let to =
        Addressees { namespace: namespace.path.clone(), everyone, rooms, users, clients, except };
    let counted = context.broker.survey::<usize>(&Survey::Addressees(to.clone()), None).await;
    let count = count_here(context, &to) + counted.answers.into_iter().sum::<usize>();
    if count > MAX_ADDRESSEES {
        let message = format!(
            "the event would go to {count} clients, and at most {MAX_ADDRESSEES} can be asked to acknowledge: name fewer"
        );
        return Err(Refusal::invalid(message));
    }
    let packet = Packet::with(event, data, is_list);
    if to.everyone {
        context.broker.admit(&namespace, None).await?;
    }
    try_join_all(to.rooms.iter().map(|room| context.broker.admit(&namespace, Some(room)))).await?;
    let question = Survey::AskClients { to: to.clone(), wait };
    let elsewhere = context.broker.survey_within(&question, Some(&packet), wait + TO_ANSWER);
    let (mut part, elsewhere) = tokio::join!(ask_here(context, &to, &packet, wait), elsewhere);
    let coverage = Coverage::of(&elsewhere);
    for Part { responses, timed_out } in elsewhere.answers {
        part.responses.extend(responses);
        part.timed_out.extend(timed_out);
    }
    Ok(Acknowledged { id, part, coverage })
}

/// How many clients of this node are meant.
pub fn count_here(context: &Context, to: &Addressees) -> usize {
    clients(context, to).len()
}

/// Sends the event to the clients of this node that are meant, and waits for their acknowledgements.
pub async fn ask_here(context: &Context, to: &Addressees, packet: &Packet, wait: Duration) -> Part {
    let (mut part, deadline) = (Part::default(), Instant::now() + wait);
    let arguments = arguments(packet);
    let (mut silent, mut waiting) = (Vec::new(), FuturesUnordered::new());
    for client in clients(context, to) {
        if let Some(answer) = acknowledgement::ask(&client.sender, packet.event(), &arguments) {
            let place = silent.len();
            waiting.push(async move { (place, answer.await) });
        }
        silent.push(Some(client));
    }
    context.metrics.delivered(waiting.len());
    // What is kept of an answer is charged to the client that gave it.
    let (mut charges, mut kept) = (Vec::new(), 0);
    while let Ok(Some((place, answer))) = timeout_at(deadline, waiting.next()).await {
        let (Some(args), Some(client)) = (answer, &silent[place]) else { continue };
        let Some(charge) = client.sender.account().charge_incoming(args.len()) else { continue };
        if kept + args.len() > MAX_BYTES {
            continue;
        }
        kept += args.len();
        charges.push(charge);
        let client_id = client.id.to_string();
        part.responses.push(Response { client_id, args: raw(args) });
        silent[place] = None;
    }
    part.timed_out.extend(silent.into_iter().flatten().map(|client| client.id.to_string()));
    part
}

/// The packet's arguments, each with its attachments.
fn arguments(packet: &Packet) -> Vec<Payload> {
    let payload = packet.payload();
    if !packet.is_list() {
        return vec![payload.clone()];
    }
    let text = payload.json();
    let items = serde_json::from_str::<Vec<&RawValue>>(&text).unwrap_or_default();
    // Cannot fail: all of them are a valid payload together.
    items.into_iter().filter_map(|item| payload.with_json(item.to_owned()).ok()).collect()
}

/// The clients of this node that are meant, each once.
fn clients(context: &Context, to: &Addressees) -> Vec<Arc<Client>> {
    let registry = &context.registry;
    let mut found = IndexMap::new();
    let mut add = |client: Arc<Client>| {
        if !client.is_left_out(&to.except) {
            found.insert((client.id.clone(), client.namespace.path.clone()), client);
        }
    };
    if let Some(namespace) = registry.namespace(&to.namespace) {
        if to.everyone {
            namespace.clients().into_iter().for_each(&mut add);
        }
        for room in to.rooms.iter().filter_map(|room| namespace.room(room.as_str())) {
            room.lock().members().map(|member| member.client.clone()).for_each(&mut add);
        }
    }
    to.users.iter().flat_map(|user| registry.users.clients(user)).for_each(&mut add);
    to.clients.iter().flat_map(|id| registry.clients(id)).for_each(&mut add);
    found.into_values().collect()
}
