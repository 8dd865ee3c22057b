//! A panic ends the step it was in, and nothing else: not the client, not its clean-up, not the server.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
};

use futures_util::FutureExt;

use crate::{hub::Client, telemetry::metrics::Metrics};

/// Calls `begin`; `None` if it panics. The panic hook has logged where.
pub(super) fn catch_panic<R>(begin: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(begin)).ok()
}

/// The output of `work`; `None` if it panics.
pub(super) fn catch_panic_async<F: Future>(work: F) -> impl Future<Output = Option<F::Output>> {
    AssertUnwindSafe(work).catch_unwind().map(Result::ok)
}

/// Runs one step of a client's connect or disconnect, and returns whether it completed. A panic is counted,
/// and ends only this step.
pub(super) fn step(metrics: &Metrics, client: &Client, name: &str, work: impl FnOnce()) -> bool {
    let work = || {
        failpoint(client, name);
        work();
    };
    let taken = catch_panic(work).is_some();
    if !taken {
        metrics.panicked();
        tracing::error!(client = %client.id, step = name, "a panic ended this step");
    }
    taken
}

/// In this crate's own tests a client can ask, by its name, for a panic, or for a step that takes 20 ms.
#[cfg(test)]
pub(super) fn failpoint(client: &Client, place: &str) {
    assert!(*client.name != format!("panics at {place}"), "as the test asked for");
    if *client.name == format!("dawdles at {place}") {
        // In place, so that no other task waits behind it.
        tokio::task::block_in_place(|| std::thread::sleep(std::time::Duration::from_millis(20)));
    }
}

#[cfg(not(test))]
pub(super) const fn failpoint(_: &Client, _: &str) {}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{protocol::names::UserId, support::TestServer};

    fn panics(server: &TestServer) -> String {
        let figures = server.app.metrics.encode();
        let line = figures.lines().find_map(|line| line.strip_prefix("roomcast_panics_total "));
        line.unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_panic_ends_its_event_and_not_the_client() {
        let server = TestServer::start().await;
        let mut client =
            server.connecting().auth(json!({"clientName": "panics at join-room"})).join().await;
        let ack = client.ask("join-room", json!({"roomName": "r"})).await;
        assert_eq!((&ack["success"], &ack["code"]), (&false.into(), &"unavailable".into()));
        let error = client.next("error").await;
        assert_eq!(error["event"], "join-room");
        assert_eq!(error["code"], "unavailable");
        let ack = client.ask("joinRoom", json!({"roomId": "r"})).await;
        assert_eq!(ack["success"], true);
        assert_eq!(panics(&server), "1");
    }

    #[tokio::test]
    async fn a_panic_in_any_step_of_the_end_leaves_no_ghost() {
        for place in ["leaving rooms", "announcing the end", "ending presence"] {
            let server = TestServer::start().await;
            let mut witness = server.client().await;
            witness.join("r").await;
            let name = format!("panics at {place}");
            let mut client = server.connecting().auth(json!({"clientName": name})).join().await;
            client.join("r").await;
            client.authenticate("u").await;
            client.disconnect().await;
            // The end is processed in one go: once the witness is told of a part, all of it is done.
            let told =
                if place == "announcing the end" { "user-left" } else { "client-disconnected" };
            witness.next(told).await;
            assert_eq!(panics(&server), "1", "{place}");
            assert_eq!(server.app.registry.connections(), 1, "{place}");
            let user = UserId::parse("u").unwrap();
            assert!(server.app.registry.users.clients(&user).is_empty(), "{place}");
            let room = server.app.registry.namespaces()[0].room("r").unwrap();
            assert_eq!(room.lock().members().len(), 1, "{place}");
        }
    }

    #[tokio::test]
    async fn a_panic_while_it_connects_leaves_no_ghost() {
        for place in ["welcoming", "announcing the beginning", "beginning presence"] {
            let server = TestServer::start().await;
            let mut witness = server.client().await;
            let name = format!("panics at {place}");
            let mut client =
                server.connecting().auth(json!({"clientName": name})).knock().await.unwrap();
            // It is served all the same.
            client.join("r").await;
            client.disconnect().await;
            witness.next("client-disconnected").await;
            assert_eq!(server.app.registry.connections(), 1, "{place}");
            assert_eq!(panics(&server), "1", "{place}");
        }
    }
}
