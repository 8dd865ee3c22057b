//! Whatever clients do, the registry holds what they did and nothing besides.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::json;

use crate::support::{TestClient, TestServer};

const CLIENTS: usize = 4;
const NAMESPACES: [&str; 2] = ["/", "/chat"];
const ROOMS: [&str; 3] = ["a", "b", "c"];
const USERS: [&str; 2] = ["alice", "bob"];

/// What one of the clients does; one that is not connected connects first.
#[derive(Debug, Clone)]
enum Step {
    Join(usize, usize, &'static str),
    Leave(usize, usize, &'static str),
    Authenticate(usize, usize),
    Type(usize, usize),
    Disconnect(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let join = proptest::sample::select(vec!["join-room", "joinRoom", "watch-resource"]);
    let leave = proptest::sample::select(vec!["leave-room", "leaveRoom", "unwatch-resource"]);
    prop_oneof![
        4 => (0..CLIENTS, 0..ROOMS.len(), join).prop_map(|(client, room, event)| Step::Join(client, room, event)),
        2 => (0..CLIENTS, 0..ROOMS.len(), leave).prop_map(|(client, room, event)| Step::Leave(client, room, event)),
        2 => (0..CLIENTS, 0..USERS.len()).prop_map(|(client, user)| Step::Authenticate(client, user)),
        1 => (0..CLIENTS, 0..ROOMS.len()).prop_map(|(client, room)| Step::Type(client, room)),
        2 => (0..CLIENTS).prop_map(Step::Disconnect),
    ]
}

impl Step {
    fn client(&self) -> usize {
        match self {
            Self::Join(client, ..)
            | Self::Leave(client, ..)
            | Self::Authenticate(client, _)
            | Self::Type(client, _)
            | Self::Disconnect(client) => *client,
        }
    }

    /// The event and its payload; `None` for the end of the connection.
    fn event(&self) -> Option<(&'static str, serde_json::Value)> {
        match self {
            Self::Join(_, room, event) | Self::Leave(_, room, event) => {
                Some((event, json!({"room": ROOMS[*room]})))
            }
            Self::Authenticate(_, user) => Some(("authenticate", json!(USERS[*user]))),
            Self::Type(_, room) => {
                Some(("typingIndicator", json!({"room": ROOMS[*room], "isTyping": true})))
            }
            Self::Disconnect(_) => None,
        }
    }
}

/// What a client is by what it did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Facts {
    namespace: String,
    user: Option<String>,
    rooms: BTreeSet<String>,
}

type Model = BTreeMap<String, Facts>;

/// What the registry says of its clients, looked at from the clients, the rooms and the users.
fn found(server: &TestServer, but: &str) -> Model {
    let registry = &server.app.registry;
    let mut model = Model::new();
    let mut members: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for namespace in registry.namespaces() {
        for client in namespace.clients().into_iter().filter(|client| client.id.as_str() != but) {
            let rooms: BTreeSet<_> = client.rooms().iter().map(ToString::to_string).collect();
            for room in &rooms {
                let place = (namespace.path.to_string(), room.clone());
                members.entry(place).or_default().insert(client.id.to_string());
            }
            if let Some(user) = client.user() {
                let clients = registry.users.clients(&user);
                assert_eq!(clients.iter().filter(|known| known.id == client.id).count(), 1);
            }
            let namespace = namespace.path.to_string();
            let user = client.user().map(|user| user.to_string());
            model.insert(client.id.to_string(), Facts { namespace, user, rooms });
        }
    }
    // Rooms exist because of their members alone, and know them as they know themselves.
    let mut rooms = BTreeMap::new();
    for namespace in registry.namespaces() {
        for room in namespace.rooms() {
            let ids = room.lock().members().map(|member| member.client.id.to_string()).collect();
            rooms.insert((namespace.path.to_string(), room.name.to_string()), ids);
        }
    }
    assert_eq!(rooms, members);
    // Nor has a user a client that is not there.
    for user in USERS {
        let clients = registry.users.get(user).map(|user| user.clients).unwrap_or_default();
        let expected = model.values().filter(|facts| facts.user.as_deref() == Some(user)).count();
        assert_eq!(clients.len(), expected, "{user}");
    }
    model
}

async fn connect(server: &TestServer, client: usize) -> TestClient {
    server.client_of(NAMESPACES[client % NAMESPACES.len()]).await
}

/// Whether anything in the registry still knows of a client.
fn is_known(server: &TestServer, id: &str) -> bool {
    let registry = &server.app.registry;
    let id = id.parse().unwrap();
    let of_user = |user: &&str| {
        registry
            .users
            .get(user)
            .is_some_and(|user| user.clients.iter().any(|client| client.id == id))
    };
    let mut rooms = registry.namespaces().into_iter().flat_map(|namespace| namespace.rooms());
    !registry.clients(&id).is_empty()
        || USERS.iter().any(of_user)
        || rooms.any(|room| room.lock().contains(&id))
}

async fn gone(server: &TestServer, observer: &mut TestClient, id: &str) {
    let begun = std::time::Instant::now();
    while is_known(server, id) {
        assert!(begun.elapsed().as_secs() < 10, "a client that has gone is still known");
        observer.settle().await;
    }
    // A room ends a moment after its last member.
    let empty = |room: &std::sync::Arc<roomcast::hub::Room>| room.lock().members().len() == 0;
    while server
        .app
        .registry
        .namespaces()
        .iter()
        .any(|namespace| namespace.rooms().iter().any(empty))
    {
        assert!(begun.elapsed().as_secs() < 10, "a room without members is still known");
        observer.settle().await;
    }
}

async fn grace_free() -> TestServer {
    TestServer::with(|config| config.presence_grace = Duration::ZERO).await
}

async fn one_after_another(steps: Vec<Step>) {
    let server = grace_free().await;
    let mut observer = server.client().await;
    let mut clients: [Option<TestClient>; CLIENTS] = Default::default();
    let mut model = Model::new();
    for step in steps {
        let slot = step.client();
        let Some((event, payload)) = step.event() else {
            if let Some(client) = clients[slot].take() {
                let id = client.id.clone();
                model.remove(&id);
                client.disconnect().await;
                gone(&server, &mut observer, &id).await;
            }
            continue;
        };
        if clients[slot].is_none() {
            let client = connect(&server, slot).await;
            let namespace = NAMESPACES[slot % NAMESPACES.len()].to_owned();
            model.insert(client.id.clone(), Facts { namespace, ..Facts::default() });
            clients[slot] = Some(client);
        }
        let client = clients[slot].as_mut().unwrap();
        assert_eq!(client.ask(event, payload).await["success"], true);
        let facts = model.get_mut(&client.id).unwrap();
        match step {
            Step::Join(_, room, _) => drop(facts.rooms.insert(ROOMS[room].to_owned())),
            Step::Leave(_, room, _) => drop(facts.rooms.remove(ROOMS[room])),
            Step::Authenticate(_, user) => facts.user = Some(USERS[user].to_owned()),
            Step::Type(..) | Step::Disconnect(_) => {}
        }
        assert_eq!(found(&server, &observer.id), model);
    }
    drop(clients);
    server.emptied(&mut observer).await;
}

/// The same without ever waiting: clients end in the midst of what they are doing.
async fn all_at_once(steps: Vec<Step>) {
    let server = grace_free().await;
    let mut observer = server.client().await;
    let mut clients: [Option<TestClient>; CLIENTS] = Default::default();
    for step in steps {
        let slot = &mut clients[step.client()];
        match (slot.as_mut(), step.event()) {
            (Some(client), Some((event, payload))) => client.emit(event, payload).await,
            (None, Some((event, payload))) => {
                let namespace = NAMESPACES[step.client() % NAMESPACES.len()];
                let mut client = server.connecting().namespace(namespace).knock().await.unwrap();
                client.emit(event, payload).await;
                *slot = Some(client);
            }
            (_, None) => drop(slot.take()),
        }
    }
    drop(clients);
    server.emptied(&mut observer).await;
    assert!(found(&server, &observer.id).is_empty());
}

fn check<F: Future<Output = ()>>(cases: u32, run: impl Fn(Vec<Step>) -> F) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config = ProptestConfig {
        cases,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let steps = proptest::collection::vec(step(), 1..40);
    TestRunner::new(config)
        .run(&steps, |steps| {
            runtime.block_on(run(steps));
            Ok(())
        })
        .unwrap();
}

#[test]
fn the_registry_is_what_the_clients_did() {
    check(24, one_after_another);
}

#[test]
fn nothing_is_left_of_clients_that_end_in_the_midst() {
    check(24, all_at_once);
}
