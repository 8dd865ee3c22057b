//! What comes from a client is done in order, whatever the order in which tasks run.

use shuttle::future::{JoinHandle, spawn};
use socketioxide::socket::DisconnectReason;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::*;
use crate::{
    auth::ApiKeys,
    commands::{context::shuttle_tests, membership_command::MembershipCommand},
    config::Config,
    gateways::{app::Parts, socketio::connects},
    hub::sender,
    protocol::names::RoomName,
    sync::check,
    telemetry::event_log::EventLog,
    transport::{
        Wire,
        shuttle_tests::{Line, join, wire},
    },
};

/// A server that keeps nothing.
fn app(wire: Wire) -> App {
    let change_membership = crate::gateways::socketio::change_membership;
    let context = shuttle_tests::context(Config::default(), &wire, change_membership);
    App::new(Parts {
        context,
        api_keys: ApiKeys::new(Vec::new()),
        memory: wire.memory().clone(),
        handlers: None,
        event_log: EventLog::open(None).unwrap(),
        wire,
        leaving: false.into(),
        draining: false.into(),
        tasks: TaskTracker::new(),
    })
}

/// A client that has just connected, and the library's task that writes the marker.
fn connect(app: &App, line: &Line) -> (Arc<Client>, JoinHandle<()>) {
    let namespace = app.registry.namespaces()[0].clone();
    let (id, (sender, library)) = (ClientId::make(), sender::shuttle_tests::connect(line));
    let session = Session::anonymous(&app.config);
    let client = Client::new(id, namespace.clone(), "c".into(), 4, None, sender, session);
    let client = Arc::new(client);
    namespace.add(client.clone());
    (client, library)
}

/// A connection, of this client if it has got so far. Without one nothing comes of its events.
fn connection(app: &App, client: Option<Arc<Client>>) -> Arc<Connection> {
    let connects = connects::Shared {
        config: app.config.clone(),
        registry: app.registry.clone(),
        other: None,
        metrics: app.metrics.clone(),
        event_log: app.event_log.clone(),
    };
    Arc::new(Connection {
        _stay: None,
        app: app.clone(),
        client: client.map(OnceLock::from).unwrap_or_default(),
        prepared: OnceLock::new(),
        first: Mutex::default(),
        claim: Mutex::default(),
        inbox: Inbox::default(),
        account: app.memory.open_account(),
        connects: Connects::new(Arc::new(connects), None, false),
        permit: Weak::new(),
    })
}

/// An event that is refused, as there is none of this name.
fn event(connection: &Connection, name: &str) -> Item {
    let text = format!("[\"{name}\"]");
    let charge = connection.account.charge_incoming(text.len()).unwrap();
    let (attachments, came) = (Arc::default(), Instant::now());
    Item::Event { text: text.into(), attachments, ack: None, came, charge }
}

/// Two tasks push an event each into an inbox that is open, or that opens meanwhile.
async fn push_two(is_open: bool) {
    let app = app(wire(usize::MAX));
    let connection = connection(&app, None);
    if is_open {
        connection.inbox.open(&connection, None, None);
    }
    let pushes = ["first", "second"].map(|name| {
        let connection = connection.clone();
        spawn(async move {
            assert!(connection.inbox.push(&connection, event(&connection, name)).is_ok());
        })
    });
    if !is_open {
        connection.inbox.open(&connection, None, None);
    }
    join(pushes).await;
    app.tasks.close();
    app.tasks.wait().await;
    assert_eq!(connection.account.incoming(), 0);
}

#[test]
fn nothing_is_left_behind_as_the_inbox_opens() {
    check(|| push_two(false));
}

#[test]
fn nothing_is_left_behind_as_the_inbox_runs_empty() {
    check(|| push_two(true));
}

#[test]
fn events_are_done_one_after_the_other_and_the_end_last() {
    const EVENTS: [&str; 3] = ["first", "second", "third"];
    const LATE: &str = "late";
    check(|| async {
        let line = Line::new(&wire(usize::MAX));
        let app = app(line.wire().clone());
        let (client, library) = connect(&app, &line);
        let connection = connection(&app, Some(client));
        let [client, opener, other] = [(); 3].map(|()| connection.clone());
        let tasks = [
            spawn(async move {
                for name in EVENTS {
                    assert!(client.inbox.push(&client, event(&client, name)).is_ok());
                }
                let gone = Item::Gone(DisconnectReason::TransportClose);
                assert!(client.inbox.push(&client, gone).is_ok());
                // What comes after the end is not done any more.
                assert!(client.inbox.push(&client, event(&client, LATE)).is_ok());
            }),
            spawn(async move { opener.inbox.open(&opener, None, None) }),
            spawn(async move {
                for room in ["a", "b"] {
                    let rooms = [RoomName::parse(room).unwrap()].into();
                    let order = MembershipCommand::Join { rooms, is_granted: false };
                    let item = Item::Membership(order, oneshot::channel().0);
                    assert!(other.inbox.push(&other, item).is_ok());
                }
            }),
        ];
        join(tasks).await;
        app.tasks.close();
        app.tasks.wait().await;
        library.await.unwrap();
        let told = line.read_all().await;
        let position = |text: String| told.iter().position(|told| told.contains(&text));
        let [first, second, third] = EVENTS.map(|name| position(format!(r#""event":"{name}""#)));
        assert!(first.is_some() && first < second && second < third, "of {told:?}");
        assert_eq!(position(format!(r#""event":"{LATE}""#)), None);
        let [a, b] = ["a", "b"].map(|room| position(format!(r#""roomName":"{room}""#)));
        assert!(b.is_none() || a.is_some_and(|a| Some(a) < b), "of {told:?}");
        assert_eq!(connection.account.incoming(), 0);
        assert_eq!(app.registry.connections(), 0);
        assert_eq!(app.registry.namespaces()[0].room_count(), 0);
        assert!(app.metrics.encode().contains("roomcast_events_waiting 0\n"));
    });
}
