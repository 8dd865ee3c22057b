//! The door for the other nodes: what they tell and ask, and what becomes of it here.

use serde_json::value::RawValue;

use crate::{
    broker::{
        cluster::{Event, Message, Word},
        readers_of,
        survey::Survey,
    },
    commands::{context::App, message, presence, private_message, queries, room, signal},
    hub::sender::Packet,
    protocol::payload::json_of,
};

/// Deals with what happens in the cluster.
pub fn deal(app: &App, event: Event) {
    match event {
        Event::Message(message) => hear(app, *message),
        Event::Online { user, subject } => presence::tell_online(app, &user, subject),
        Event::Arrived { user } => private_message::wake(app, &user),
        Event::Offline { user, last_active, rooms } => {
            presence::tell_offline(app, &user, last_active, rooms);
        }
    }
}

/// Does what another node says.
fn hear(app: &App, message: Message) {
    let Message { from, word, packet } = message;
    let here = &app.bus.here;
    match (word, packet) {
        (Word::Ask { id, question }, packet) => {
            // What a node of another version asks is not answered: it will name this one.
            if let Ok(question) = serde_json::from_str(question.get())
                && let Some(cluster) = &app.cluster
            {
                cluster.answer(&from, id, answer(app, question, packet.as_ref()));
            }
        }
        (Word::Wake { user }, _) => private_message::wake(app, &user),
        (Word::Claim { user, since }, _) => private_message::give_way(app, &user, (since, &from)),
        (Word::Room { place: (path, room), except }, Some(packet)) => {
            if let Some(namespace) = app.registry.namespace(&path) {
                here.to_room(namespace, &room, &packet, &except);
            }
        }
        (Word::Rooms { namespace, rooms, except }, Some(packet)) => {
            if let Some(namespace) = app.registry.namespace(&namespace) {
                here.to_rooms(namespace, &rooms, &packet, &except);
            }
        }
        (Word::Namespace { namespace, except, announcement }, Some(packet)) => {
            let namespace = app.registry.namespace(&namespace);
            if let Some(namespace) =
                namespace.filter(|home| !announcement || signal::announces(app, home))
            {
                here.to_namespace(namespace, &packet, &except);
            }
        }
        (Word::Clients { clients, except }, Some(packet)) => {
            here.to_ids(&clients, &packet, &except);
        }
        (Word::Presence(news), Some(packet)) => presence::tell_here(app, &packet, &news),
        // What is dealt with before it comes here, or carries no packet and should.
        _ => {}
    }
}

fn answer(app: &App, question: Survey, packet: Option<&Packet>) -> Box<RawValue> {
    match question {
        Survey::ToUser { user, except } => {
            let reached = packet.map_or(private_message::Reached::Nobody, |packet| {
                private_message::to_user_here(app, &user, packet, &except)
            });
            json_of(&reached)
        }
        Survey::ToClient { client, namespace } => json_of(&packet.is_some_and(|packet| {
            message::to_client_here(app, namespace.as_deref(), client, packet)
        })),
        Survey::Disconnect { client } => json_of(&queries::disconnect_here(app, client)),
        Survey::Connection { client, namespace } => {
            json_of(&queries::connection_here(app, client, namespace.as_deref()))
        }
        Survey::Connections { wanted, page } => {
            json_of(&queries::connections_here(app, &wanted, &page))
        }
        Survey::Rooms { namespace, page } => {
            let namespace = app.registry.namespace(&namespace);
            json_of(&namespace.map(|namespace| queries::rooms_here(namespace, &page)))
        }
        Survey::Room { namespace, room } => {
            let namespace = app.registry.namespace(&namespace);
            json_of(&namespace.and_then(|namespace| queries::room_here(namespace, &room)))
        }
        Survey::LastActivity { user } => json_of(&queries::last_activity_here(app, &user)),
        Survey::Counts => json_of(&queries::counts_here(app)),
        Survey::Readers { namespace, room } => {
            let namespace = app.registry.namespace(&namespace);
            let readers = namespace.and_then(|home| readers_of(home, room.as_ref()));
            json_of(&readers.map(|readers| readers.counts()).unwrap_or_default())
        }
    }
}

/// Tells the other nodes of the clients of a node that stops: they have gone. They come back on other
/// nodes by themselves.
pub fn farewell(app: &App) {
    for client in app.registry.namespaces().iter().flat_map(|namespace| namespace.clients()) {
        room::farewell(app, &client);
        signal::farewell(app, &client);
    }
}
