//! An event that the backend's answer sends.

use super::answer::Place;
use crate::{
    commands::{
        backend_event::{self, Audience, BackendEvent, Keys},
        context::Context,
    },
    gateways::{
        event_fields::{EventFields, Source},
        fields::Fields,
    },
    hub::{
        Client,
        packet::{KeptFor, Packet},
    },
    protocol::{payload::Object, refusal::Refusal},
};

/// An event to be sent.
#[derive(Debug)]
pub(super) enum Emit {
    /// To the client that the answer is about.
    Client(Packet),
    /// To others.
    Others(BackendEvent),
}

impl Emit {
    pub(super) fn read(emit: &Object<'_>, place: &Place<'_>) -> Result<Self, String> {
        let mut fields = Fields::of(emit);
        let source = Source::Answer(place.namespace);
        let event = EventFields::read(&mut fields, place.registry, source, &["everyone"]);
        let is_everyone = fields.flag("everyone");
        if is_everyone && event.audience.is_some() {
            fields.fault("everyone cannot be combined with rooms, users or clients");
        }
        let EventFields { event, data, is_list, audience, namespace, except, is_volatile, .. } =
            event;
        let Some(namespace) = namespace.filter(|_| fields.faults.is_empty()) else {
            return Err(fields.faults.join("; "));
        };
        let Some(audience) = audience.or(is_everyone.then_some(Audience::Everyone)) else {
            let packet = Packet::with(event, data, is_list);
            let is_kept = !is_volatile && !is_list;
            return Ok(Self::Client(if is_kept {
                packet.kept_for(KeptFor::Direct)
            } else {
                packet
            }));
        };
        let volatile = is_volatile;
        let event = BackendEvent { namespace, event, data, is_list, audience, except, volatile };
        Ok(Self::Others(event))
    }

    /// Sends it. `client` is the one that the answer is about.
    ///
    /// # Errors
    /// As `POST /events` refuses it.
    pub(super) async fn send(self, context: &Context, client: &Client) -> Result<(), Refusal> {
        match self {
            Self::Client(packet) => {
                let sent = client.sender.send(&packet);
                context.metrics.delivered(usize::from(sent.is_taken()));
                Ok(())
            }
            Self::Others(event) => backend_event::send(context, event, Keys::None).await.map(drop),
        }
    }
}
