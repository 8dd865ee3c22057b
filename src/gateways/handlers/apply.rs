//! Carries out what an answer says.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::answer::{Ack, Rooms, Step, Todo};
use crate::{
    commands::{
        context::Context,
        event::{Caller, ClientEvent, Incoming},
        membership, success,
    },
    hub::Client,
    protocol::{
        payload::{Argument, Payload, raw},
        refusal::Refusal,
    },
};

/// An event that the backend was asked about.
pub(super) struct Asked {
    /// Its name.
    pub name: String,
    /// Its arguments: an array.
    pub arguments: Payload,
    /// The contract's event of this name, which goes on after the backend has answered.
    pub known: Option<&'static ClientEvent>,
}

/// Carries out an answer to an event.
///
/// # Errors
/// If the event of the contract is refused, and nothing of the answer is carried out then; or one of the steps,
/// and nothing behind it is.
pub(super) async fn to_event(caller: Caller, asked: &Asked, todo: Todo) -> Result<(), Refusal> {
    let Caller { context, client, ack } = &caller;
    let Todo { data, payload, is_handled, steps, ack: answer, disconnect, .. } = todo;
    let mut own = None;
    match asked.known {
        Some(event) if !is_handled => {
            let own_ack = ack.filter(|_| matches!(answer, Ack::Own));
            let caller = Caller { context: context.clone(), client: client.clone(), ack: own_ack };
            own = go_on(event, asked, payload, caller).await?;
        }
        _ if ack.is_some() => own = Some(success()),
        _ => {}
    }
    if let Some(data) = data {
        client.set_data(data);
    }
    carry_out(context, client, steps).await?;
    match (answer, own) {
        (Ack::With(list), _) => client.acknowledge_with(*ack, &list),
        (Ack::Own, Some(own)) => client.acknowledge(*ack, &own),
        (Ack::Own | Ack::Nothing, _) => {}
    }
    if let Some(reason) = disconnect {
        client.disconnect(reason);
    }
    Ok(())
}

/// The event of the contract goes on, with this payload in the place of its first argument if there is one.
async fn go_on(
    event: &ClientEvent,
    asked: &Asked,
    payload: Option<Payload>,
    caller: Caller,
) -> Result<Option<Payload>, Refusal> {
    let first = {
        let json = asked.arguments.json();
        let all = serde_json::from_str::<Vec<&RawValue>>(&json).unwrap_or_default();
        all.first().map(|first| (*first).to_owned())
    };
    let begun = match (payload, first) {
        (None, first) => {
            let attachments = asked.arguments.attachments().into();
            let first = first.as_deref().map(Argument::of);
            event.begin(&Incoming::new(&asked.name, first, attachments), caller)
        }
        (Some(payload), first) => {
            let origin = asked.arguments.with_json(first.unwrap_or_default())?;
            let (argument, attachments) = (raw(&*payload.json()), payload.attachments().into());
            let incoming = Incoming::new(&asked.name, Some(Argument::of(&argument)), attachments);
            event.begin(&incoming.instead_of(&origin), caller)
        }
    };
    begun.work.await
}

/// Carries out steps, one after the other. What concerns a client that has gone is left out.
///
/// # Errors
/// That of the first step that is refused; those behind it are not carried out.
pub(super) async fn carry_out(
    context: &Context,
    client: &Arc<Client>,
    steps: Vec<Step>,
) -> Result<(), Refusal> {
    for step in steps {
        match step {
            Step::Leave(Rooms { rooms, is_silent }) => {
                membership::leave_rooms(context, client, &rooms, is_silent);
            }
            Step::Join(Rooms { rooms, is_silent }) => {
                membership::join(context, client, &rooms, is_silent).await?;
            }
            Step::Emit(emit) => emit.send(context, client).await?,
        }
    }
    Ok(())
}
