//! What goes out by connections, whatever the order in which tasks run.

use std::{future::Future, task::Poll};

use futures_util::poll;
use shuttle::{
    future::{JoinHandle, spawn, yield_now},
    rand::{Rng, thread_rng},
};

use super::{connection::polling::Polled, pong::Pong, readers::Behind, *};
use crate::{
    memory::{self, Slow},
    protocol::client_id::ClientId,
    sync::check,
};

/// How many packets a task sends.
pub const PACKETS: usize = 3;

/// A packet that means nothing.
const LAST: &str = "6";

/// A wire by which a client may have this much unsent.
pub fn wire(send_buffer: usize) -> Wire {
    let hour = Duration::from_hours(1);
    let limits =
        Limits { send_buffer, send_timeout: hour, heartbeat: hour, max_message: usize::MAX };
    let memory = memory::Limits { outgoing: send_buffer, incoming: usize::MAX, process: 0 };
    Wire::new(limits, Memory::new(memory))
}

/// A connection, with the library's end of it and the peer's.
#[derive(Clone)]
pub struct Line {
    wire: Wire,
    connection: Arc<Connection>,
    socket: Socket,
}

impl Line {
    /// A new connection.
    pub fn new(wire: &Wire) -> Self {
        let (socket, account) = (Socket::default(), wire.memory().open_account());
        let peer = ([127, 0, 0, 1], 1).into();
        let connection = Connection::new(socket.clone(), peer, wire.clone(), account);
        Self { wire: wire.clone(), connection: Arc::new(connection), socket }
    }

    /// The wire that it is one of.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The library writes these packets at once.
    pub fn write(&self, texts: &[&str]) {
        self.connection.write(&texts.iter().flat_map(|text| frame(text)).collect::<Vec<_>>());
    }

    /// Everything that the peer reads before one more packet of the library's.
    pub async fn read_all(&self) -> Vec<String> {
        self.write(&[LAST]);
        let is_last = |found: frame::Found<'_>| found.text == Some(LAST.as_bytes());
        let mut texts = texts(&self.socket.read_until(|all| frame::walk(all).any(is_last)).await);
        assert_eq!(texts.pop().as_deref(), Some(LAST));
        texts
    }

    /// The packet of this number, from 0 on, once the peer has read it; `None` if the connection ends before.
    pub async fn packet(&self, number: usize) -> Option<String> {
        let has_it = |written: &[u8]| frame::walk(written).count() > number;
        let written = self.socket.read_until(has_it).await;
        let text = frame::walk(&written).nth(number)?.text?.to_vec();
        Some(String::from_utf8(text).unwrap())
    }

    /// The peer answers a ping.
    pub fn answer_ping(&self) {
        self.connection.answered(Pong::EngineIo);
    }

    /// The connection breaks.
    pub fn cut(&self) {
        self.connection.break_off();
    }

    /// Waits for the end of the connection.
    pub async fn wait_over(&self) {
        self.connection.wait_over().await;
    }

    /// A handle on the connection.
    pub fn handle(&self) -> Handle {
        Handle::of(&self.connection)
    }

    /// Reads to the end of the connection.
    async fn read(&self) -> Vec<String> {
        texts(&self.socket.read_until(|_| false).await)
    }

    fn push(&self, task: usize, number: usize) -> Pushed {
        self.connection.push(&packet(&self.wire, task, number), None)
    }
}

/// The packet that is the marker of this secret.
pub fn marker(secret: &str) -> String {
    format!(r#"43{UPGRADE_MARKER}["{secret}"]"#)
}

/// A packet as a server's frame.
fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81, u8::try_from(text.len()).unwrap()];
    frame.extend(text.as_bytes());
    frame
}

/// The texts of what was written, which begins and ends with a whole frame.
fn texts(written: &[u8]) -> Vec<String> {
    let found = frame::walk(written).collect::<Vec<_>>();
    assert_eq!(found.last().map_or(0, |last| last.range.end), written.len(), "a part of a frame");
    found.iter().map(|found| String::from_utf8(found.text.unwrap().to_vec()).unwrap()).collect()
}

fn text(task: usize, number: usize) -> String {
    format!("42[{task},{number}]")
}

fn packet(wire: &Wire, task: usize, number: usize) -> Frames {
    wire.encode(Kind::Event, "/", &[&text(task, number)[2..]], &[], false)
}

/// Checks that of a task's packets the first ones came, this many, each once and in order.
pub fn assert_came(texts: &[String], count: usize, packet: impl Fn(usize) -> String) {
    let all = (0..=2 * PACKETS).map(packet).collect::<Vec<_>>();
    let came = texts.iter().filter(|text| all.contains(text)).collect::<Vec<_>>();
    assert_eq!(came, all[..count].iter().collect::<Vec<_>>(), "of {texts:?}");
}

/// Waits for all of these tasks.
pub async fn join<T>(tasks: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    let mut outputs = Vec::new();
    for task in tasks {
        outputs.push(task.await.unwrap());
    }
    outputs
}

/// Begins a task with clones of its own.
fn begin<C: Clone, T: Send + 'static, F>(context: &C, work: impl FnOnce(C) -> F) -> JoinHandle<T>
where
    F: Future<Output = T> + Send + 'static,
{
    spawn(work(context.clone()))
}

#[test]
fn each_packet_is_written_once_and_in_order() {
    check(|| async {
        let wire = wire(usize::MAX);
        let lines = [Line::new(&wire), Line::new(&wire)];
        let writers = [0, 1].map(|task| {
            begin(&lines, |lines| async move {
                for number in 0..PACKETS {
                    for line in &lines {
                        assert_eq!(line.push(task, number), Pushed::Taken);
                    }
                }
            })
        });
        let readers = lines.clone().map(|line| {
            spawn(async move {
                let size = 2 * PACKETS * frame(&text(0, 0)).len();
                texts(&line.socket.read_until(|written| written.len() >= size).await)
            })
        });
        join(writers).await;
        for texts in join(readers).await {
            assert_eq!(texts.len(), 2 * PACKETS);
            for task in [0, 1] {
                assert_came(&texts, PACKETS, |number| text(task, number));
            }
        }
        for line in lines {
            line.connection.wait_below(0).await;
        }
    });
}

#[test]
fn the_end_comes_after_what_was_pushed_before() {
    check(|| async {
        let wire = wire(usize::MAX);
        let line = Line::new(&wire);
        let writer = begin(&line, |line| async move {
            (0..PACKETS).filter(|number| line.push(0, *number) == Pushed::Taken).count()
        });
        let reader = begin(&line, |line| async move { line.read().await });
        let waiter = begin(&line, |line| async move { line.connection.wait_over().await });
        assert_eq!(line.push(1, 0), Pushed::Taken);
        line.connection.close(wire.0.streams.token());
        assert_eq!(line.push(1, 1), Pushed::Gone);
        wire.closed().await;
        assert!(line.connection.is_over());
        let (taken, texts) = (writer.await.unwrap(), reader.await.unwrap());
        assert_came(&texts, taken, |number| text(0, number));
        assert_came(&texts, 1, |number| text(1, number));
        assert!(!line.socket.is_reset());
        waiter.await.unwrap();
    });
}

#[test]
fn a_cut_off_wakes_all_who_wait() {
    check(|| async {
        let wire = wire(4 * frame(&text(0, 0)).len());
        // The peer does not read.
        let line = Line::new(&wire);
        let transport: Arc<dyn Transport> = line.connection.clone();
        line.connection.account().attach(Arc::downgrade(&transport));
        let switch =
            TransportSwitch::new(wire.clone(), ClientId::make(), line.connection.account().clone());
        switch.send_marker(&mut switch.lock(), |secret| {
            let (library, marker) = (line.clone(), marker(secret));
            wire.spawn(async move { library.write(&[&marker]) });
            true
        });
        assert_eq!(line.push(0, 0), Pushed::Taken);
        let waiters = [
            begin(&line, |line| async move { line.connection.wait_over().await }),
            begin(&line, |line| async move { line.connection.wait_below(0).await }),
            begin(&line, |line| async move {
                assert!(line.connection.probe(Ask::EngineIo).await.is_err());
            }),
            begin(&switch, |switch| async move { switch.wait_below(0).await }),
            begin(&switch, |switch| async move {
                assert!(!switch.confirm_delivery(Ask::WebSocket).await);
            }),
            begin(&line, |line| async move {
                // It is behind, with a packet unsent, as it gets this one.
                let readers = Arc::<Readers>::default();
                line.connection.push(&packet(&line.wire, 2, 0), Some(&readers.begin()));
                readers.wait_drained().await;
            }),
        ];
        let breaks = begin(&line, |line| async move {
            line.connection.account().break_off(Slow::Memory);
        });
        while line.push(1, 0) != Pushed::Gone {}
        join(waiters).await;
        breaks.await.unwrap();
        assert!(line.connection.is_over() && line.socket.is_reset());
        assert_eq!(line.connection.unsent(), 0);
        assert!(line.connection.account().cut_off().is_some());
    });
}

#[test]
fn a_publisher_waits_until_most_have_caught_up_or_ended() {
    check(|| async {
        let readers = Arc::<Readers>::default();
        let mut slow = [Behind::default(), Behind::default()];
        let mut delivery = readers.begin();
        for behind in &mut slow {
            behind.register(&delivery);
            delivery.reached();
        }
        drop(delivery);
        let [mut first, mut second] = slow;
        let tasks = [
            begin(&readers, |readers| async move { readers.wait_drained().await }),
            spawn(async move { first.caught_up() }),
            spawn(async move { second.ceased() }),
        ];
        join(tasks).await;
        assert_eq!(readers.counts(), Counts { readers: 1, behind: 0 });
    });
}

#[test]
fn each_marker_turns_its_switch() {
    check(|| async {
        let wire = wire(usize::MAX);
        let clients = [Line::new(&wire), Line::new(&wire)].map(|line| {
            spawn(async move {
                let account = line.connection.account().clone();
                let switch = TransportSwitch::new(line.wire.clone(), ClientId::make(), account);
                let mut written = String::new();
                switch.send_marker(&mut switch.lock(), |secret| {
                    written = marker(secret);
                    true
                });
                line.write(&[&written]);
                assert!(!switch.is_waiting());
            })
        });
        join(clients).await;
    });
}

#[test]
fn an_upgrade_loses_nothing_and_keeps_the_order() {
    check(|| async {
        let wire = wire(usize::MAX);
        let line = Line::new(&wire);
        let account = wire.memory().open_account();
        let polled =
            Arc::new(Connection::polled(([127, 0, 0, 1], 1).into(), wire.clone(), account));
        let session = Session::of(&polled);
        let writer = {
            let line = Line { connection: polled.clone(), ..line.clone() };
            spawn(async move {
                for number in 0..2 * PACKETS {
                    assert_eq!(line.push(0, number), Pushed::Taken);
                }
            })
        };
        let polls = begin(&session, |session| async move {
            let mut came = Vec::new();
            loop {
                let mut poll = Box::pin(session.poll(1));
                // Some polls are given up.
                let polled = match poll!(poll.as_mut()) {
                    Poll::Ready(polled) => polled,
                    Poll::Pending if thread_rng().r#gen() => continue,
                    Poll::Pending => poll.await,
                };
                match polled {
                    Polled::Messages(messages, answering) => {
                        let text = |message: &frame::Message| message.payload.to_vec();
                        came.extend(messages.iter().map(text).map(String::from_utf8));
                        drop(answering);
                    }
                    Polled::Nothing => return came,
                    end => panic!("{end:?}"),
                }
            }
        });
        let upgrading = session.upgrade().unwrap();
        let mut polls = Box::pin(polls);
        let came = loop {
            match poll!(polls.as_mut()) {
                Poll::Ready(came) => break came.unwrap(),
                Poll::Pending => upgrading.release_poll(),
            }
            yield_now().await;
        };
        let mut came = came.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
        // The client takes its time.
        for _ in 0..thread_rng().gen_range(0..10) {
            yield_now().await;
        }
        upgrading.switch(line.socket.clone(), None);
        let rest = (2 * PACKETS - came.len()) * frame(&text(0, 0)).len();
        came.extend(texts(&line.socket.read_until(|written| written.len() >= rest).await));
        assert_came(&came, 2 * PACKETS, |number| text(0, number));
        writer.await.unwrap();
        polled.wait_below(0).await;
    });
}

#[test]
fn a_hold_ends_with_the_packet_that_it_is_for_on_any_thread() {
    check(|| async {
        let wire = wire(usize::MAX);
        let noted = [1, 2].map(|packets| {
            begin(&wire, |wire| async move { (0..packets).for_each(|_| wire.scheduler().note()) })
        });
        wire.scheduler().wait_for(3).await;
        join(noted).await;
    });
}
