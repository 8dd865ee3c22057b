//! The gateway for the other nodes: handles their node messages, and answers their surveys.

use futures_util::FutureExt;
use serde_json::value::RawValue;

use crate::{
    broker::{
        cluster::{Event, Message, NodeMessage},
        readers_of,
        survey::Survey,
    },
    commands::{
        announcement, backend_membership, backend_message, connection_recovery, context::Context,
        emit_with_ack, presence, private_message, queries, revocation, room,
    },
    gateways::app::App,
    hub::packet::Packet,
    protocol::payload::json_of,
};

/// Handles an event of the cluster.
pub fn deal(app: &App, event: Event) {
    let context = &app.context;
    match event {
        Event::Message(message) => hear(app, *message),
        Event::Online { user, subject } => {
            if let Some(webhooks) = context.broker.webhooks() {
                webhooks.user_is(&user, true);
            }
            presence::tell_online(context, &user, subject);
        }
        Event::Arrived { user } => private_message::wake(context, &user),
        Event::Offline { user, last_active, rooms } => {
            if let Some(webhooks) = context.broker.webhooks() {
                webhooks.user_is(&user, false);
            }
            presence::tell_offline(context, &user, last_active, rooms);
        }
    }
}

/// Handles a node message.
fn hear(app: &App, message: Message) {
    let context = &app.context;
    let Message { from, word, packet } = message;
    let here = &context.broker.here;
    match (word, packet) {
        (NodeMessage::Ask { id, question }, packet) => {
            // A question of an unknown kind is not answered: its node reports this one as unreachable.
            let question = serde_json::from_str(question.get());
            if let (Ok(question), Some(cluster)) = (question, context.cluster.clone()) {
                let mut answer = Box::pin(answer(app.clone(), question, packet));
                // Most questions are answered at once, and so in their order.
                match answer.as_mut().now_or_never() {
                    Some(answer) => cluster.answer(&from, id, answer),
                    None => drop(tokio::spawn(async move {
                        cluster.answer(&from, id, answer.await);
                    })),
                }
            }
        }
        (NodeMessage::Wake { user }, _) => private_message::wake(context, &user),
        (NodeMessage::Claim { user, since }, _) => {
            private_message::give_way(context, &user, (since, &from));
        }
        (NodeMessage::Room { place: (path, room), except }, Some(packet)) => {
            if let Some(namespace) = context.registry.namespace(&path) {
                here.to_room(&namespace, &room, &packet, &except);
            }
        }
        (NodeMessage::Rooms { namespace, rooms, except }, Some(packet)) => {
            if let Some(namespace) = context.registry.namespace(&namespace) {
                here.to_rooms(&namespace, &rooms, &packet, &except);
            }
        }
        (NodeMessage::Namespace { namespace, except, announcement }, Some(packet)) => {
            let namespace = context.registry.namespace(&namespace);
            if let Some(namespace) =
                namespace.filter(|home| !announcement || announcement::announces(context, home))
            {
                here.to_namespace(&namespace, &packet, &except);
            }
        }
        (NodeMessage::Clients { clients, except }, Some(packet)) => {
            here.to_ids(&clients, &packet, &except);
        }
        (NodeMessage::Keep { user, except }, Some(packet)) => {
            here.keep_for_user(&user, &packet, &except);
        }
        (NodeMessage::Presence(news), Some(packet)) => presence::tell_here(context, &packet, &news),
        // Messages that are handled before they come here, or lack the packet that they should carry.
        _ => {}
    }
}

async fn answer(app: App, question: Survey, packet: Option<Packet>) -> Box<RawValue> {
    let (context, packet) = (&app.context, packet.as_ref());
    match question {
        Survey::ToUser { user, except } => {
            let reached = packet.map_or(private_message::Reached::Nobody, |packet| {
                private_message::to_user_here(context, &user, packet, &except)
            });
            json_of(&reached)
        }
        Survey::ToClient { client, namespace } => json_of(&packet.is_some_and(|packet| {
            backend_message::to_client_here(context, namespace.as_deref(), &client, packet)
        })),
        Survey::Disconnect { client } => json_of(&queries::disconnect_here(context, &client)),
        Survey::Connection { client, namespace } => {
            json_of(&queries::connection_here(context, &client, namespace.as_deref()))
        }
        Survey::Missing { clients } => json_of(&queries::missing_here(context, &clients)),
        Survey::Connections { wanted, page } => {
            json_of(&queries::connections_here(context, &wanted, &page))
        }
        Survey::Rooms { namespace, page } => {
            let namespace = context.registry.address(&namespace);
            json_of(&namespace.map(|namespace| queries::rooms_here(&namespace, &page)))
        }
        Survey::Room { namespace, room } => {
            let namespace = context.registry.namespace(&namespace);
            json_of(&namespace.and_then(|namespace| queries::room_here(&namespace, &room)))
        }
        Survey::LastActivity { user } => json_of(&queries::last_activity_here(context, &user)),
        Survey::Acknowledge { id } => json_of(&packet.is_some_and(|packet| {
            let handlers = app.handlers.as_ref();
            handlers.is_some_and(|handlers| handlers.acknowledge(&id, packet.payload()))
        })),
        Survey::DisconnectUser { user, reason } => {
            json_of(&backend_membership::disconnect_user_here(context, &user, &reason))
        }
        Survey::DisconnectSelected { selection, closes } => {
            json_of(&backend_membership::disconnect_selected_here(context, &selection, closes))
        }
        Survey::Membership(change) => {
            json_of(&backend_membership::change_here(context, &change).await)
        }
        Survey::Revocations => json_of(&revocation::refresh(context).await.is_ok()),
        Survey::Addressees(to) => json_of(&emit_with_ack::count_here(context, &to)),
        Survey::AskClients { to, wait } => match packet {
            Some(packet) => json_of(&emit_with_ack::ask_here(context, &to, packet, wait).await),
            None => json_of(&emit_with_ack::Part::default()),
        },
        Survey::HoldSession { r#move, namespace, pid, offset, owner } => {
            let back = connection_recovery::Back { pid, offset };
            json_of(&connection_recovery::hold(context, &r#move, &namespace, &back, &owner).await)
        }
        Survey::TakeSession { r#move } => {
            // What the asking node had before it began to keep must be in the journal.
            let is_whole = match &context.cluster {
                Some(cluster) => cluster.all_heard().await,
                None => true,
            };
            let taken = is_whole.then(|| connection_recovery::take(context, &r#move));
            json_of(&taken.flatten())
        }
        Survey::SessionPart { r#move } => json_of(&connection_recovery::part(context, &r#move)),
        Survey::Counts => json_of(&queries::counts_here(context)),
        Survey::Readers { namespace, room } => {
            let namespace = context.registry.namespace(&namespace);
            let readers = namespace.and_then(|home| readers_of(&home, room.as_ref()));
            json_of(&readers.map(|readers| readers.counts()).unwrap_or_default())
        }
    }
}

/// Tells the other nodes that this node's clients have gone, as it stops. The clients come back on other
/// nodes by themselves.
pub fn announce_departures(context: &Context) {
    for client in context.registry.all_clients() {
        room::announce_departure(context, &client);
        announcement::announce_departure(context, &client);
    }
}
