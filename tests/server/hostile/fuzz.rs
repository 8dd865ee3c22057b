//! Whatever bytes come in, nothing panics and the server serves on.
//!
//! The files in `tests/corpus` are always replayed; then inputs are made at random, partly from those
//! files. `PROPTEST_CASES=100000 cargo test --test server fuzz` looks for longer. What is found is kept in
//! `tests/corpus/regressions.txt`; worth a file of its own is what shows a fault of a new kind.

use std::{
    fs,
    path::Path,
    sync::{LazyLock, Mutex, PoisonError},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::{FileFailurePersistence, TestRunner},
};
use reqwest::StatusCode;
use tokio::runtime::Runtime;

use super::checks::{assert_deserted, assert_serves};
use crate::support::{
    TestServer,
    raw::{BINARY, FIN, Poller, TEXT, Wire},
};

/// What separates the packets of one body, and here of one file.
const SEPARATOR: u8 = 0x1e;

/// The files of one folder of the corpus.
fn corpus(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files.into_iter().map(|file| fs::read(file).unwrap()).collect()
}

static PACKETS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| corpus("packets"));
static POLLING_3: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| corpus("polling3"));
static REQUESTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| corpus("requests"));

/// A client in `/`.
async fn connect(server: &TestServer) -> Wire {
    let mut wire = Wire::websocket(server, "EIO=4&transport=websocket").await;
    wire.send("40").await;
    wire.expect("42[\"connected\"").await;
    wire
}

/// A server, and a well-behaved client that notices when it stops serving.
struct Target {
    server: TestServer,
    witness: Wire,
}

impl Target {
    async fn start() -> Self {
        // Announcements would tell the witness of every connection, which is not the point here.
        let server = TestServer::with(|config| config.announce_connections = false).await;
        let witness = connect(&server).await;
        Self { server, witness }
    }

    /// The packets of a body as the frames of a websocket.
    async fn websocket(&mut self, packets: &[u8]) {
        let mut wire = connect(&self.server).await;
        for packet in packets.split(|byte| *byte == SEPARATOR) {
            let attachment = packet.strip_prefix(b"b");
            match attachment.map(|text| BASE64_STANDARD.decode(text)) {
                Some(Ok(bytes)) => wire.frame(FIN | BINARY, &bytes).await,
                _ => wire.frame(FIN | TEXT, packet).await,
            }
        }
        // Read or not, close or not: all of it has been taken in when this is answered, if it is.
        wire.send("42[\"ping\"]").await;
        while wire.text().await.is_some_and(|text| !text.starts_with("42[\"pong\"")) {}
        self.check().await;
    }

    /// A body that is posted.
    async fn polling(&mut self, protocol: u8, body: &[u8]) {
        let poller = Poller::open(&self.server, protocol).await;
        if protocol == 4 {
            poller.post("40").await;
        }
        let answer = poller.post(body).await;
        assert!(!answer.status.is_server_error(), "{}: {}", answer.status, answer.text);
        assert!([StatusCode::OK, StatusCode::BAD_REQUEST].contains(&answer.status));
        poller.post(if protocol == 4 { "1" } else { "1:1" }).await;
        self.check().await;
    }

    /// Bytes on a connection that is hung up at once.
    async fn request(&mut self, bytes: &[u8]) {
        let mut wire = Wire::open(self.server.address()).await;
        wire.write(bytes).await;
        drop(wire);
        self.check().await;
    }

    async fn check(&mut self) {
        self.witness.assert_alive().await;
        let metrics = self.server.app.metrics.encode();
        assert!(metrics.contains("roomcast_panics_total 0"), "a handler panicked");
    }

    async fn end(self) {
        drop(self.witness);
        assert_serves(&self.server).await;
        assert_deserted(&self.server).await;
    }
}

#[tokio::test]
async fn the_corpus_does_no_harm() {
    let mut target = Target::start().await;
    for packets in PACKETS.iter() {
        target.websocket(packets).await;
        target.polling(4, packets).await;
        target.polling(3, packets).await;
    }
    for body in POLLING_3.iter() {
        target.polling(3, body).await;
        target.polling(4, body).await;
    }
    for bytes in REQUESTS.iter() {
        target.request(bytes).await;
    }
    target.end().await;
}

/// Runs `test` with many inputs against one server.
fn fuzz<S: Strategy<Value = Vec<u8>>>(inputs: S, test: &impl AsyncFn(&mut Target, &[u8])) {
    let regressions = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/regressions.txt");
    let mut runner = TestRunner::new(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(regressions))),
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    });
    let runtime = Runtime::new().unwrap();
    let target = runtime.block_on(Target::start());
    let target = Mutex::new(Some(target));
    let outcome = runner.run(&inputs, |input| {
        // A failing input poisons it, and is then tried again smaller.
        let mut target = target.lock().unwrap_or_else(PoisonError::into_inner);
        let target = target.as_mut().unwrap();
        runtime.block_on(test(target, &input));
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let target = target.into_inner().unwrap().unwrap();
    runtime.block_on(target.end());
}

/// A file of the corpus with some of its bytes changed, and a piece of another one put into it.
fn mutated(corpus: &'static [Vec<u8>]) -> impl Strategy<Value = Vec<u8>> {
    let change =
        (any::<Index>(), prop_oneof![any::<u8>(), select(b"0123456789[]{},:\"\\-/b\x1e".to_vec())]);
    (select(corpus), vec(change, 0..6), select(corpus), any::<[Index; 3]>()).prop_map(
        |(mut input, changes, other, [at, from, to])| {
            for (place, byte) in changes {
                if !input.is_empty() {
                    let place = place.index(input.len());
                    input[place] = byte;
                }
            }
            if !other.is_empty() {
                let (from, to) = (from.index(other.len()), to.index(other.len()));
                let at = at.index(input.len() + 1);
                input.splice(at..at, other[from.min(to)..from.max(to)].iter().copied());
            }
            input
        },
    )
}

/// Any JSON, of the kinds that payloads have.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:e}")),
        "\\PC{0,8}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        select(vec!["\"room\"", "\"\\u0000\"", "\"\\ud800\"", "\"ann\"", "\"online\"", "0", "1"])
            .prop_map(str::to_owned),
        Just("{\"_placeholder\":true,\"num\":0}".to_owned()),
    ];
    let key = select(vec![
        "roomName",
        "roomId",
        "room",
        "resourceId",
        "text",
        "content",
        "id",
        "messageId",
        "userId",
        "targetUserId",
        "target",
        "message",
        "status",
        "isTyping",
        "limit",
        "offset",
        "epoch",
        "lastMessageId",
        "event",
        "data",
        "omitSender",
        "replyToSender",
        "token",
        "x",
    ]);
    leaf.prop_recursive(4, 24, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(|items| format!("[{}]", items.join(","))),
            vec((key.clone(), inner), 0..6).prop_map(|fields| {
                let fields = fields.iter().map(|(key, value)| format!("\"{key}\":{value}"));
                format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

/// Events as clients send them, with payloads as no client sends them.
fn events() -> impl Strategy<Value = Vec<u8>> {
    let event = (
        select(roomcast::commands::client_events().map(|event| event.name).collect::<Vec<_>>()),
        prop::option::of(any::<u64>()),
        vec(json(), 0..3),
        any::<bool>(),
    )
        .prop_map(|(name, ack, arguments, binary)| {
            let ack = ack.map(|id| id.to_string()).unwrap_or_default();
            let array = std::iter::once(format!("\"{name}\""))
                .chain(arguments)
                .collect::<Vec<_>>()
                .join(",");
            if binary {
                format!("451-{ack}[{array}]\x1ebAQID")
            } else {
                format!("42{ack}[{array}]")
            }
        });
    vec(event, 1..8).prop_map(|events| events.join("\x1e").into_bytes())
}

#[test]
fn any_packets_on_a_websocket() {
    let inputs = prop_oneof![mutated(&PACKETS), events(), vec(any::<u8>(), 0..100)];
    fuzz(inputs, &async |target, packets| target.websocket(packets).await);
}

#[test]
fn any_body_of_polling() {
    let inputs = prop_oneof![mutated(&PACKETS), events(), vec(any::<u8>(), 0..100)];
    fuzz(inputs, &async |target, body| target.polling(4, body).await);
}

#[test]
fn any_body_of_polling_in_engine_io_3() {
    let inputs = prop_oneof![mutated(&POLLING_3), vec(any::<u8>(), 0..100)];
    fuzz(inputs, &async |target, body| target.polling(3, body).await);
}

#[test]
fn any_bytes_on_a_connection() {
    let inputs = prop_oneof![mutated(&REQUESTS), vec(any::<u8>(), 0..200)];
    fuzz(inputs, &async |target, bytes| target.request(bytes).await);
}
