//! What a client is sent while its session begins and ends, whatever the order in which tasks run.

use shuttle::future::{JoinHandle, spawn};

use super::*;
use crate::{
    sync::check,
    transport::shuttle_tests::{Line, PACKETS, assert_came, join, marker, wire},
};

/// What the library writes before the marker, and after it.
const FIRST: [&str; 2] = ["0{}", "40{}"];
const LATER: &str = "2";

#[derive(Debug)]
struct Nobody;

impl Observer for Nobody {
    fn sent(&self, _: &Arc<str>, _: &ClientId, _: &Packet) {}
}

/// The sender of a client that has just connected, and the task in which the library writes its first packets and
/// the marker.
pub fn connect(line: &Line) -> (ClientSender, JoinHandle<()>) {
    let mut library = None;
    let write = |secret: &str| {
        let (line, marker) = (line.clone(), marker(secret));
        library = Some(spawn(async move {
            line.write(&FIRST[..1]);
            line.write(&[FIRST[1], &marker]);
            line.write(&[LATER]);
        }));
    };
    let (id, wire) = (ClientId::make(), line.wire().clone());
    let sender = ClientSender::without_socket(id, "/".into(), wire, Arc::new(Nobody), write);
    (sender, library.unwrap())
}

/// The same for a client whose session has this journal.
pub fn connect_to_session(line: &Line, journal: Arc<Journal>) -> (ClientSender, JoinHandle<()>) {
    let (mut sender, library) = connect(line);
    let number = journal.count_connection();
    (sender.journal, sender.connection) = (Some((journal, number)), Some(line.handle()));
    (sender, library)
}

fn packet(task: usize, number: usize) -> Packet {
    Packet::of("e", &[task, number])
}

#[test]
fn nothing_overtakes_the_marker_or_is_lost_with_the_sender() {
    check(|| async {
        let line = Line::new(&wire(usize::MAX));
        let (sender, library) = connect(&line);
        let sender = Arc::new(sender);
        let senders = [0, 1].map(|task| {
            let sender = sender.clone();
            spawn(async move {
                (0..PACKETS).filter(|n| sender.send(&packet(task, *n)).is_taken()).count()
            })
        });
        let waiter = {
            let sender = sender.clone();
            spawn(async move { sender.room().await })
        };
        assert!(sender.send(&packet(2, 0)).is_taken());
        sender.disconnect();
        assert_eq!(sender.send(&packet(2, 1)), Sent::Gone);
        drop(sender);
        let sent = join(senders).await;
        join([library, waiter]).await;
        let texts = line.read_all().await;
        assert_eq!(texts[..FIRST.len()], FIRST);
        assert!(texts.contains(&LATER.to_owned()));
        assert_eq!(texts.len(), FIRST.len() + 1 + sent.iter().sum::<usize>() + 1, "{texts:?}");
        for (task, sent) in sent.into_iter().chain([1]).enumerate() {
            assert_came(&texts, sent, |number| format!(r#"42["e",[{task},{number}]]"#));
        }
    });
}
