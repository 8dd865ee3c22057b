use std::{
    future::Future,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::FutureExt;

use super::{
    polls::{ABANDONED, PIECE},
    *,
};
use crate::{
    memory::{self, Memory},
    transport::{
        Came, Goes, Limits, Packets, Stream,
        frame::{Frames, Kind, Message},
    },
};

#[derive(Debug)]
struct All;

impl Packets for All {
    fn came(&self, _: &[u8]) -> Came {
        Came::Pass
    }

    fn goes(&self, _: &[u8]) -> Goes {
        Goes::AsIs
    }

    fn poll_taken(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// A session, and the library's stream of it.
fn session() -> (Stream, Session) {
    let hour = Duration::from_hours(1);
    let limits = Limits {
        send_buffer: 1_000_000,
        send_timeout: hour,
        heartbeat: hour,
        max_message: usize::MAX,
    };
    let memory = Memory::new(memory::Limits { outgoing: 0, incoming: 0, process: 0 });
    let wire = Wire::new(limits, memory.clone());
    wire.session(([127, 0, 0, 1], 1).into(), &memory.open_account(), Arc::new(All))
}

fn send(session: &Session, text: &str) {
    let frames = Frames::encode(Kind::Event, "/", &[text], &[], false);
    session.0.push(&frames, None);
    session.0.flush_dirty();
}

fn texts(polled: Polled) -> (Vec<String>, Answering) {
    let Polled::Messages(messages, answering) = polled else { panic!("{polled:?}") };
    let text = |message: &Message| String::from_utf8(message.payload.to_vec()).unwrap();
    (messages.iter().map(text).collect(), answering)
}

fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    future.now_or_never()
}

#[tokio::test]
async fn what_was_meant_for_a_poll_that_is_given_up_waits_for_the_next() {
    let (_stream, session) = session();
    let mut given_up = Box::pin(session.poll(1000));
    assert!(given_up.as_mut().now_or_never().is_none(), "there is nothing yet");
    send(&session, "[1]");
    send(&session, "[2]");
    drop(given_up);
    assert_eq!(texts(now(session.poll(1000)).unwrap()).0, ["42[1]", "42[2]"]);
    // A dropped poll that was never answered makes way for the next.
    assert!(now(session.poll(1000)).is_none());
    send(&session, "[3]");
    assert_eq!(texts(now(session.poll(1000)).unwrap()).0, ["42[3]"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_peer_is_gone_during_a_poll_ends_soon() {
    let (_stream, session) = session();
    let mut broken = Box::pin(session.poll(1000));
    assert!(broken.as_mut().now_or_never().is_none());
    drop(broken);
    let mut again = Box::pin(session.poll(1000));
    assert!(again.as_mut().now_or_never().is_none());
    tokio::time::sleep(ABANDONED * 2).await;
    assert!(!session.is_over(), "it has polled again");
    send(&session, "[1]");
    assert_eq!(texts(again.now_or_never().unwrap()).0, ["42[1]"]);
    tokio::time::sleep(ABANDONED * 2).await;
    assert!(!session.is_over(), "it has its answer");
    let mut broken = Box::pin(session.poll(1000));
    assert!(broken.as_mut().now_or_never().is_none());
    drop(broken);
    tokio::time::timeout(ABANDONED * 2, session.ended()).await.unwrap();
}

#[tokio::test]
async fn nothing_is_handed_out_beside_an_answer_that_is_not_taken() {
    let (_stream, session) = session();
    for text in ["[1]", "[2]"] {
        send(&session, text);
    }
    let (first, answering) = texts(now(session.poll(1)).unwrap());
    assert_eq!(first, ["42[1]"]);
    let body = vec![Bytes::from(vec![b'x'; PIECE + 1])];
    let mut pieces = answering.pieces(body);
    assert_eq!(pieces.len(), 2);
    let unsent = || session.0.unsent();
    let mut next = Box::pin(session.poll(1000));
    assert!(next.as_mut().now_or_never().is_none());
    pieces.truncate(1);
    assert!(next.as_mut().now_or_never().is_none());
    assert_eq!(unsent(), PIECE + 7, "a piece, and what waits");
    drop(pieces);
    let (second, _answering) = texts(next.now_or_never().unwrap());
    assert_eq!(second, ["42[2]"]);
    assert_eq!(unsent(), 7);
}

#[tokio::test]
async fn two_polls_at_once_end_the_session() {
    let (_stream, session) = session();
    let mut first = Box::pin(session.poll(1000));
    assert!(first.as_mut().now_or_never().is_none());
    assert!(matches!(now(session.poll(1000)), Some(Polled::Overlaps)));
    assert!(matches!(first.now_or_never(), Some(Polled::Close)));
    assert!(matches!(now(session.poll(1000)), Some(Polled::Over)));
}

#[tokio::test]
async fn while_an_upgrade_is_under_way_the_session_is_polled() {
    let (_stream, session) = session();
    let mut waits = Box::pin(session.poll(1000));
    assert!(waits.as_mut().now_or_never().is_none());
    let upgrading = session.upgrade().unwrap();
    assert!(session.upgrade().is_none(), "there is one already");
    assert!(waits.as_mut().now_or_never().is_none());
    send(&session, "[1]");
    assert_eq!(texts(waits.now_or_never().unwrap()).0, ["42[1]"]);
    let mut waits = Box::pin(session.poll(1000));
    assert!(waits.as_mut().now_or_never().is_none());
    upgrading.release_poll();
    assert!(matches!(waits.now_or_never(), Some(Polled::Nothing)));
    drop(upgrading);
    assert!(session.upgrade().is_some(), "the next may try");
}

#[tokio::test]
async fn a_session_has_a_few_websockets_that_it_may_upgrade_to() {
    let (_stream, session) = session();
    let mut open = (0..MAX_PROBES).map(|_| session.probe().unwrap()).collect::<Vec<_>>();
    assert!(session.probe().is_none());
    open.pop();
    assert!(session.probe().is_some());
}

#[tokio::test]
async fn the_next_poll_answers_a_ping_of_the_websockets() {
    let (_stream, session) = session();
    let mut confirmed = session.0.probe(crate::transport::Ask::WebSocket);
    session.0.flush_dirty();
    let Some(Polled::Messages(_, answering)) = now(session.poll(1000)) else { panic!() };
    assert!(confirmed.try_recv().is_err());
    drop(answering);
    assert!(now(session.poll(1000)).is_none());
    confirmed.try_recv().unwrap();
}
