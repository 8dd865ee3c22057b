//! Recovery on join.

use roomcast::{
    protocol::{audience::Except, names::RoomName, timestamp::Timestamp},
    store::{Append, Entry, RoomKey},
};
use serde_json::{Value, json};

use super::{MESSAGES, assert_refused, fill, next_offset, offset_of, server, with};
use crate::support::{TestClient, TestServer};

async fn recover(client: &mut TestClient, offset: u64) -> Value {
    client.ask("join-room", json!({"roomName": "r", "offset": offset})).await
}

#[tokio::test]
async fn a_join_replays_exactly_what_was_missed_as_the_events_it_was() {
    let server = server().await;
    let (mut away, mut other) = (server.client().await, server.client().await);
    let epoch = away.ask("join-room", "r".into()).await["epoch"].clone();
    fill(&mut other, "r", 1).await;
    let own = json!({"roomName": "r", "own": true});
    assert_eq!(away.ask("message", own).await["offset"], 2);
    away.disconnect().await;
    other.join("r").await;
    other.emit("sendMessage", json!({"roomId": "r", "content": "c", "id": "m"})).await;
    other.emit("channels", json!({"roomName": "r", "k": 1})).await;
    other.emit("message", json!({"roomName": "r", "replyToSender": true, "k": 2})).await;
    let mut live = Vec::new();
    for _ in 3..=5 {
        live.push(other.next_of(&MESSAGES).await);
    }
    other.all("message-reply").await;

    let mut back = server.client().await;
    let ack = back.ask("join-room", json!({"roomName": "r", "offset": 1, "epoch": epoch})).await;
    for (field, wanted) in [
        ("recovered", json!(true)),
        ("missed", json!(4)),
        ("oldestOffset", json!(1)),
        ("offset", json!(5)),
    ] {
        assert_eq!(ack[field], wanted, "{field} in {ack}");
    }
    assert_eq!(ack["epoch"], epoch);
    let names = ["message-reply", "newMessage", "resource-update", "room-joined"];
    let first = back.next_of(&names).await;
    assert_eq!((&first.data["offset"], &first.data["own"]), (&json!(2), &json!(true)));
    for was in live {
        let again = back.next_of(&names).await;
        assert_eq!((again.name, again.text), (was.name, was.text), "to the letter");
    }
    assert_eq!(back.next_of(&names).await.name, "room-joined", "after the replay");
    assert_eq!(other.all("message-reply").await, Vec::<Value>::new(), "to that client alone");
    assert_eq!(other.all("user-joined").await.len(), 1);
    fill(&mut other, "r", 1).await;
    assert_eq!(next_offset(&mut back).await, 6);
}

#[tokio::test]
async fn who_missed_nothing_recovers_nothing() {
    let server = server().await;
    let mut client = server.client().await;
    for head in [0, 3] {
        fill(&mut client, "r", head).await;
        let mut back = server.client().await;
        let ack = recover(&mut back, head).await;
        assert_eq!((&ack["recovered"], &ack["missed"]), (&json!(true), &json!(0)), "{ack}");
        assert_eq!(back.all("message-reply").await, Vec::<Value>::new());
    }
}

/// As many messages as make several pages, stored without a client that would have to send them.
async fn store(server: &TestServer, count: u64) {
    let room = RoomKey { namespace: "/".into(), room: RoomName::parse("r").unwrap() };
    let append = |n: u64| Append {
        room: room.clone(),
        entry: Entry {
            id: n.to_string(),
            event: "message-reply".into(),
            json: format!(r#"{{"n":{n}}}"#).into(),
            attachments: Vec::new(),
            timestamp_ms: Timestamp::now().as_millis(),
        },
        except: Except::nobody(),
        sender: None,
        webhook: None,
    };
    let log = server.app.broker.log().unwrap();
    let appended = (1..=count).map(|n| log.append(append(n))).collect::<Vec<_>>();
    for appended in appended {
        appended.await.unwrap();
    }
}

#[tokio::test]
async fn a_replay_is_as_long_as_the_limit_allows() {
    const MANY: u64 = 10_500;
    for limit in [MANY, 0] {
        let server = with(|config| {
            config.history_size = MANY;
            config.recovery_limit = limit;
        })
        .await;
        store(&server, MANY).await;
        let mut client = server.client().await;
        let ack = recover(&mut client, 0).await;
        assert_eq!((&ack["recovered"], &ack["missed"]), (&json!(true), &json!(MANY)), "{ack}");
        for offset in 1..=MANY {
            assert_eq!(next_offset(&mut client).await, offset);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_gets_what_comes_meanwhile_however_much_that_is() {
    const BEFORE: u64 = 700;
    const MEANWHILE: u64 = 7_000;
    for rejoins in [false, true] {
        let server = with(|config| {
            config.history_size = 10_000;
            config.recovery_limit = 10_000;
        })
        .await;
        let mut client = server.client().await;
        if rejoins {
            client.join("r").await;
        }
        store(&server, BEFORE).await;
        let join =
            if rejoins { json!({"roomName": "r"}) } else { json!({"roomName": "r", "offset": 0}) };
        let ((), ack) = tokio::join!(store(&server, MEANWHILE), client.ask("join-room", join));
        assert_eq!(ack["success"], true, "{ack}");
        assert!(rejoins || ack["recovered"] == true, "{ack}");
        for offset in 1..=BEFORE + MEANWHILE {
            assert_eq!(next_offset(&mut client).await, offset, "rejoins: {rejoins}");
        }
        assert_eq!(client.all("message-reply").await, Vec::<Value>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_history_never_pretends_to_be_a_long_one() {
    let server = with(|config| config.history_size = 5).await;
    let mut client = server.client().await;
    client.join("r").await;
    let storm = storm(&server);
    let (mut last, mut refusals) = (0, 0);
    while last + 10 < STORM {
        for _ in 0..10 {
            assert_eq!(next_offset(&mut client).await, last + 1);
            last += 1;
        }
        client = server.client().await;
        let ack = recover(&mut client, last).await;
        if ack["recovered"] == false {
            assert!(ack["oldestOffset"].as_u64().unwrap() > last + 1, "{ack} after {last}");
            refusals += 1;
            // It begins with what came after, if anything does.
            let live = client.ask("message", json!({"roomName": "r", "replyToSender": true})).await;
            let first = next_offset(&mut client).await;
            assert!(first > last && first <= offset_of(&live));
            last = first;
        }
    }
    storm.await.unwrap();
    assert!(refusals > 0, "nothing was lost");
}

#[tokio::test]
async fn a_join_while_the_history_cannot_be_read_changes_nothing() {
    let server = server().await;
    let mut client = server.client().await;
    server.app.store.as_ref().unwrap().close().await;
    for join in [json!({"roomName": "r"}), json!({"roomName": "r", "offset": 0})] {
        assert_refused(&client.ask("join-room", join).await, "unavailable");
        assert_eq!(client.next("error").await["code"], "unavailable");
    }
    assert_eq!(client.all("room-joined").await, Vec::<Value>::new());
    let namespace = server.app.registry.namespace("/").unwrap();
    assert_eq!(namespace.room_count(), 0, "the room does not stay either");
}

#[track_caller]
fn assert_lost(ack: &Value, oldest: u64, head: u64) {
    assert_eq!(ack["success"], true, "{ack}");
    assert_eq!((&ack["recovered"], &ack["missed"]), (&json!(false), &json!(0)), "{ack}");
    assert_eq!((&ack["oldestOffset"], &ack["offset"]), (&json!(oldest), &json!(head)), "{ack}");
}

#[tokio::test]
async fn what_cannot_be_replayed_in_full_is_not_replayed_at_all() {
    let server = with(|config| {
        config.history_size = 20;
        config.recovery_limit = 10;
    })
    .await;
    let mut sender = server.client().await;
    fill(&mut sender, "r", 30).await;
    let joins = [
        ("trimmed", json!({"roomName": "r", "offset": 9})),
        ("ahead", json!({"roomName": "r", "offset": 31})),
        ("another epoch", json!({"roomName": "r", "offset": 29, "epoch": "0123456789abcdef"})),
        ("no epoch at all", json!({"roomName": "r", "offset": 29, "epoch": 7})),
        ("over the limit", json!({"roomName": "r", "offset": 19})),
    ];
    for (why, join) in joins {
        let mut client = server.client().await;
        let ack = client.ask("join-room", join).await;
        assert_lost(&ack, 11, 30);
        assert_eq!(client.all("message-reply").await, Vec::<Value>::new(), "{why}");
        assert_eq!(client.all("room-joined").await.len(), 1, "{why}: it is in all the same");
    }
    let mut client = server.client().await;
    let ack = recover(&mut client, 20).await;
    assert_eq!((&ack["recovered"], &ack["missed"]), (&json!(true), &json!(10)), "at the limit");
}

#[tokio::test]
async fn a_replay_has_at_most_eight_megabytes() {
    let server = server().await;
    let mut sender = server.client().await;
    let text = "x".repeat(900_000);
    for _ in 0..9 {
        sender.ask("message", json!({"roomName": "r", "text": text})).await;
    }
    let mut client = server.client().await;
    assert_lost(&recover(&mut client, 0).await, 1, 9);
    let mut client = server.client().await;
    let ack = recover(&mut client, 1).await;
    assert_eq!((&ack["recovered"], &ack["missed"]), (&json!(true), &json!(8)));
    for offset in 2..=9 {
        assert_eq!(next_offset(&mut client).await, offset);
    }
}

#[tokio::test]
async fn a_member_recovers_in_place_and_nobody_notices() {
    let server = server().await;
    let (mut member, mut other) = (server.client().await, server.client().await);
    other.join("r").await;
    member.join("r").await;
    other.next("user-joined").await;
    member.next("room-joined").await;
    fill(&mut other, "r", 4).await;
    for offset in 1..=4 {
        assert_eq!(next_offset(&mut member).await, offset);
    }
    let ack = recover(&mut member, 2).await;
    assert_eq!((&ack["recovered"], &ack["missed"]), (&json!(true), &json!(2)));
    assert_eq!((next_offset(&mut member).await, next_offset(&mut member).await), (3, 4));
    assert_eq!(member.all("room-joined").await, Vec::<Value>::new());
    assert_eq!(other.all("user-joined").await, Vec::<Value>::new());
    fill(&mut other, "r", 1).await;
    assert_eq!(next_offset(&mut member).await, 5, "it is still a member, once");
    assert_eq!(member.all("message-reply").await, Vec::<Value>::new());
}

#[tokio::test]
async fn attachments_are_kept_with_their_message() {
    let server = server().await;
    let (mut sender, mut member) = (server.client().await, server.client().await);
    member.join("r").await;
    let text =
        r#"{"roomName":"r","b":{"_placeholder":true,"num":1},"a":{"_placeholder":true,"num":0}}"#;
    sender.emit_binary("message", text, &[b"first\0", b""]).await;
    let live = member.next_event("message-reply").await;
    let mut attachments = live.attachments.clone();
    attachments.sort();
    assert_eq!(attachments, [b"".to_vec(), b"first\0".to_vec()]);
    assert_eq!(live.data["offset"], 1);
    let mut late = server.client().await;
    recover(&mut late, 0).await;
    let replayed = late.next_event("message-reply").await;
    assert_eq!((&replayed.text, &replayed.attachments), (&live.text, &live.attachments));
    late.ask("syncMessages", json!({"roomId": "r"})).await;
    let synced = late.next_event("message-reply").await;
    assert_eq!((&synced.text, &synced.attachments), (&live.text, &live.attachments));
}

/// Three clients that send 1,000 messages each at full speed, with some under way all the time.
fn storm(server: &TestServer) -> tokio::task::JoinHandle<()> {
    const EACH: u64 = 1_000;
    const UNDER_WAY: u64 = 20;
    let senders = [server.connecting(), server.connecting(), server.connecting()];
    tokio::spawn(async move {
        let mut tasks = tokio::task::JoinSet::new();
        for (number, connecting) in senders.into_iter().enumerate() {
            tasks.spawn(async move {
                let mut client = connecting.join().await;
                for n in 0..EACH + UNDER_WAY {
                    if n < EACH {
                        let message = json!({"roomName": "r", "from": number, "n": n});
                        client.ask_later("message", message).await.unwrap();
                    }
                    if n >= UNDER_WAY {
                        let (_, ack) = client.next_ack().await.unwrap();
                        assert_eq!(ack["success"], true, "{ack}");
                    }
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    })
}

const STORM: u64 = 3_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_comes_and_goes_gets_every_message_once_while_others_send() {
    let server = with(|config| {
        config.history_size = 20_000;
        config.recovery_limit = 20_000;
    })
    .await;
    let mut client = server.client().await;
    let mut epoch = client.ask("join-room", "r".into()).await["epoch"].clone();
    let storm = storm(&server);
    let (mut last, mut rounds) = (0, 0);
    while last < STORM {
        // Some rounds are short, so that it comes again before it has read what it was replayed.
        let until = (last + [250, 1, 120, 40][rounds % 4]).min(STORM);
        while last < until {
            assert_eq!(next_offset(&mut client).await, last + 1, "round {rounds}");
            last += 1;
        }
        rounds += 1;
        if rounds % 3 == 0 {
            client.ask("leave-room", "r".into()).await;
            client.all("message-reply").await;
        } else {
            // Dropped without a word.
            client = server.client().await;
        }
        let join = json!({"roomName": "r", "offset": last, "epoch": epoch});
        let ack = client.ask("join-room", join).await;
        assert_eq!(ack["recovered"], true, "{ack}");
        assert!(offset_of(&ack) >= last + ack["missed"].as_u64().unwrap(), "{ack}");
        epoch = ack["epoch"].clone();
    }
    storm.await.unwrap();
    assert_eq!(client.all("message-reply").await, Vec::<Value>::new());
    assert!(rounds > 20, "only {rounds} rounds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_joins_again_misses_nothing_while_others_send() {
    let server = server().await;
    let mut member = server.client().await;
    member.join("r").await;
    let storm = storm(&server);
    let joins = [
        json!({"roomName": "r"}),
        json!({"roomName": "r", "offset": 0, "epoch": "0123456789abcdef"}),
        json!({"roomName": "r", "offset": 1_000_000}),
    ];
    let mut last = 0;
    while last < STORM {
        let join = joins[usize::try_from(last).unwrap() % 3].clone();
        let asked = member.ask_later("join-room", join).await.unwrap();
        for _ in 0..7.min(STORM - last) {
            assert_eq!(next_offset(&mut member).await, last + 1);
            last += 1;
        }
        assert_eq!(member.ack(asked).await["success"], true);
    }
    storm.await.unwrap();
    assert_eq!(member.all("message-reply").await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_recovers_in_place_goes_on_after_the_replay_while_others_send() {
    let server = with(|config| config.history_size = 20_000).await;
    let mut member = server.client().await;
    member.join("r").await;
    let storm = storm(&server);
    let (mut last, mut replays) = (0_u64, 0);
    while last < STORM {
        let after = last.saturating_sub(30);
        let ack = recover(&mut member, after).await;
        assert_eq!(ack["recovered"], true, "{ack}");
        // What is live goes on until the replay begins, once, behind `after`.
        let mut replayed = false;
        for message in member.all("message-reply").await {
            let offset = offset_of(&message);
            if offset != last + 1 {
                assert_eq!((offset, replayed), (after + 1, false), "after {last}");
                replayed = true;
                replays += 1;
            }
            last = offset;
        }
    }
    storm.await.unwrap();
    assert!(replays > 3, "only {replays} replays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_joins_again_misses_no_signal() {
    const SIGNALS: usize = 300;
    let server = server().await;
    let (mut member, mut typist) = (server.client().await, server.client().await);
    member.join("r").await;
    let typing = tokio::spawn(async move {
        for n in 0..SIGNALS {
            let signal = json!({"roomId": "r", "isTyping": n % 2 == 0});
            assert_eq!(typist.ask("typingIndicator", signal).await["success"], true);
        }
    });
    while !typing.is_finished() {
        recover(&mut member, 0).await;
    }
    typing.await.unwrap();
    assert_eq!(member.all("userTyping").await.len(), SIGNALS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ack_of_a_join_comes_before_whatever_is_newer_than_its_offset() {
    let server = with(|config| config.history_size = 20_000).await;
    let mut member = server.client().await;
    let storm = storm(&server);
    let mut joins = 0;
    while !storm.is_finished() {
        for event in ["join-room", "joinRoom", "watch-resource"] {
            let mut asked = vec![json!({"room": "r"}), json!({"room": "r", "offset": 1_000_000})];
            let newest = member.ask(event, json!({"room": "r"})).await["offset"].as_u64().unwrap();
            asked.push(json!({"room": "r", "offset": newest}));
            for join in asked {
                member.drop_events("message-reply");
                let ack = member.ask(event, join).await;
                // What has come by now came before the ack.
                for message in member.arrived("message-reply") {
                    assert!(offset_of(&message) <= offset_of(&ack), "{message} before {ack}");
                }
                joins += 1;
            }
        }
        member.ask("leave-room", "r".into()).await;
    }
    storm.await.unwrap();
    assert!(joins > 30, "only {joins} joins");
}
