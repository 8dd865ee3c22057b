use super::*;
use crate::support::TestServer;

fn connects(change: impl FnOnce(&mut Config)) -> Arc<Connects> {
    let mut config = Config { max_namespaces_per_connection: 2, ..Config::default() };
    change(&mut config);
    let shared = Shared {
        config: Arc::new(config),
        registry: Arc::new(Registry::new(&["/", "/chat", "/third"].map(str::to_owned), 0)),
        other: Some("/admin"),
        metrics: Arc::new(Metrics::default()),
        event_log: EventLog::default(),
    };
    Connects::new(Arc::new(shared), None, false)
}

#[test]
fn packets_are_told_apart_with_their_namespaces() {
    for (packet, wanted) in [
        ("40", Some((true, "/"))),
        ("40{\"token\":\"/a,\"}", Some((true, "/"))),
        ("40/chat", Some((true, "/chat"))),
        ("40/chat,{}", Some((true, "/chat"))),
        ("40/chat?token=a,b", Some((true, "/chat"))),
        ("41/chat,", Some((false, "/chat"))),
        ("41", Some((false, "/"))),
        ("42[]", None),
        ("4", None),
        ("", None),
    ] {
        assert_eq!(parse(packet.as_bytes()), wanted, "{packet}");
    }
}

#[test]
fn a_connect_is_offered_once_and_taken_once() {
    let connects = connects(|_| {});
    let root: Arc<str> = "/".into();
    assert_eq!(connects.take(&root).unwrap_err().code, Code::Forbidden);
    assert_eq!(connects.came(b"40"), Came::Offer);
    assert_eq!(connects.came(b"40"), Came::Pass, "one that is not taken yet is answered, too");
    let taken = connects.take(&root).unwrap();
    assert_eq!(connects.take(&root).unwrap_err().code, Code::Forbidden);
    assert_eq!(connects.came(b"40"), Came::Pass, "it is being answered");
    drop(taken);
    assert_eq!(connects.came(b"40"), Came::Offer, "it was refused before");
    assert_eq!(connects.came(b"40/unknown,"), Came::Pass);
}

#[test]
fn a_client_gets_an_id_of_its_namespace() {
    let session = Sid::new();
    let of = |v3: bool, packet: &str, namespace: &str| {
        let connects = connects(|_| {});
        let connects = Connects::new(connects.shared.clone(), None, v3);
        assert_eq!(connects.came(packet.as_bytes()), Came::Offer);
        let id = connects.take(&namespace.into()).unwrap().client_id(session);
        id.to_string()
    };
    assert_eq!(of(true, "40/chat,", "/chat"), format!("/chat#{session}"));
    assert_eq!(of(true, "40/chat?token=x,", "/chat"), format!("/chat#{session}"));
    assert_eq!(of(true, "40/chat", "/chat"), session.to_string(), "Socket.IO 1");
    for packet in ["40/chat,", "40/chat"] {
        let id = of(false, packet, "/chat");
        assert_eq!(id.len(), 20);
        assert_ne!(id, of(false, packet, "/chat"));
    }
    let connects = connects(|_| {});
    let root = Connects::new(connects.shared.clone(), None, true);
    assert_eq!(root.take(&"/".into()).unwrap().client_id(session).as_str(), session.as_str());
}

#[test]
fn the_librarys_answer_does_not_go_to_a_client() {
    let connects = connects(|_| {});
    assert_eq!(connects.goes(b"40{\"sid\":\"x\"}"), Goes::Nowhere);
    assert_eq!(connects.goes(b"40/chat,{\"sid\":\"x\"}"), Goes::Nowhere);
    let Goes::Instead(text) = connects.goes(b"40/admin,{\"sid\":\"secret\"}") else { panic!() };
    assert!(text.starts_with("40/admin,{\"sid\":\"") && !text.contains("secret"), "{text}");
    let third = Connects::new(connects.shared.clone(), None, true);
    assert_eq!(third.goes(b"40/chat,"), Goes::AsIs);
}

#[test]
fn who_leaves_may_come_back_before_its_end() {
    let connects = connects(|_| {});
    let root: Arc<str> = "/".into();
    assert_eq!(connects.came(b"40"), Came::Offer);
    let mut taken = connects.take(&root).unwrap();
    taken.entered = true;
    assert_eq!(connects.came(b"41"), Came::Pass);
    assert_eq!(connects.came(b"40"), Came::Offer);
    connects.left("/");
    connects.take(&root).unwrap();
}

/// The library tells a client that it is connected before it calls the handler, and ignores another CONNECT
/// until the handler has returned. Only a slow handler makes a client meet that.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_comes_back_before_the_handler_has_returned_is_answered() {
    let server = TestServer::start().await;
    let slow = server.connecting().query("clientName", "dawdles+at+welcoming");
    let mut client = slow.knock().await.unwrap();
    for _ in 0..10 {
        client.send_frame("41").await;
        client.send_frame("40").await;
        client.next("connect").await;
    }
    client.disconnect().await;
}

#[test]
fn a_connection_has_so_many_namespaces() {
    let connects = connects(|_| {});
    let mut taken = Vec::new();
    for (packet, namespace) in [("40", "/"), ("40/chat,", "/chat")] {
        assert_eq!(connects.came(packet.as_bytes()), Came::Offer);
        taken.push(connects.take(&namespace.into()).unwrap());
    }
    assert_eq!(connects.came(b"40/third,"), Came::Offer);
    let refusal = connects.take(&"/third".into()).unwrap_err();
    assert!(refusal.message.contains("MAX_NAMESPACES_PER_CONNECTION"), "{refusal}");
    taken.pop();
    assert_eq!(connects.came(b"40/third,"), Came::Offer);
    connects.take(&"/third".into()).unwrap();
}

#[test]
fn what_is_over_the_limit_is_refused_and_then_ends_it() {
    let connects = connects(|config| {
        config.rate_limit_events = 1;
        config.rate_limit_burst = 2;
    });
    for packet in ["40/unknown,", "40/unknown,", "41/chat,"] {
        assert_eq!(connects.came(packet.as_bytes()), Came::Pass);
    }
    assert_eq!(connects.came(b"40"), Came::Offer);
    let refusal = connects.take(&"/".into()).unwrap_err();
    assert_eq!(refusal.code, Code::RateLimited);
    let ended = (0..30).find(|_| connects.came(b"40/unknown,") == Came::TooMany);
    assert!(ended.is_some());
}
