//! A webhook has its message until it is delivered, whatever becomes of the log.

use std::{collections::BTreeMap, sync::atomic::Ordering::SeqCst};

use super::*;
use crate::store::{WebhookMessage, tests::bytes};

fn stream(name: &str) -> Stream {
    Stream::of_room(&room(name))
}

/// A message with its webhook, whose content is told apart by `number`.
fn append(world: &World, name: &str, number: u64) -> Append {
    let webhook = Webhook {
        id: format!("msg_{number}"),
        stream: stream(name),
        at_ms: world.clock.load(SeqCst),
        json: format!("{{\"{number}\""),
    };
    let attachments = if number.is_multiple_of(3) { vec![bytes("x"), bytes("")] } else { vec![] };
    let json = format!(r#"{{"n":{number},"text":"{}"}}"#, "x".repeat(100)).into();
    Append {
        room: room(name),
        entry: Entry { json, attachments, ..world.entry(&number.to_string()) },
        except: Except::nobody(),
        sender: None,
        webhook: Some(webhook),
    }
}

/// A message and where it was stored.
type Told = (String, WebhookMessage);

impl World {
    /// Stores a message with its webhook; what the backend is to be told.
    async fn tell(&self, name: &str, number: u64) -> Told {
        let append = append(self, name, number);
        let (json, attachments) = (append.entry.json.clone(), append.entry.attachments.clone());
        let position = self.store.append(append).await.unwrap();
        (format!("msg_{number}"), WebhookMessage { position, json, attachments })
    }

    /// Fills the room so that the log is turned over.
    async fn turn_over(&self, name: &str, messages: u64) {
        for _ in 0..messages {
            self.append(&room(name), "other").await;
        }
        self.store.sweep().await.unwrap();
    }

    /// Lets all messages expire, and takes their space back.
    async fn expire(&self) {
        self.advance(101);
        self.store.sweep().await.unwrap();
    }

    async fn untold(&self, name: &str) -> Vec<Told> {
        let page = self.store.webhooks(stream(name), 1_000, usize::MAX).await.unwrap();
        page.into_iter().map(|webhook| (webhook.id, webhook.message.unwrap())).collect()
    }

    fn rows_where(&self, condition: &str) -> u64 {
        self.rows(&format!("webhooks WHERE {condition}"))
    }
}

on_both! {
    async fn a_message_is_copied_only_where_its_record_is_deleted(mut world) {
        let mut told = Vec::new();
        for number in 0..10 {
            told.push(world.tell("a", number).await);
        }
        assert_eq!(world.untold("a").await, told);
        assert_eq!((world.rows("log"), world.rows_where("data IS NULL")), (10, 10));
        world.expire().await;
        assert_eq!(world.untold("a").await, told);
        assert_eq!((world.rows("log"), world.rows_where("data IS NULL")), (0, 0));
        if world.survives {
            world.reopen(|_, _| {});
            assert_eq!(world.untold("a").await, told);
        }
        told.push(world.tell("a", 10).await);
        assert_eq!(world.untold("a").await, told);
        let page = world.store.webhooks(stream("a"), 100, usize::MAX).await.unwrap();
        let delivered = page.into_iter().map(|webhook| (webhook.seq, webhook.id)).collect();
        let settled = Settled { delivered, ..Settled::of(stream("a")) };
        assert_eq!(world.store.settle_webhooks(settled).await, Ok(11));
        assert_eq!(world.rows("webhooks"), 0);
    }

    async fn the_webhooks_of_a_forgotten_room_are_told(mut world) {
        world.reopen(|settings, _| (settings.history_size, settings.max_rooms) = (5, 1));
        let mut told = Vec::new();
        for number in 0..5 {
            told.push(world.tell("a", number).await);
        }
        world.append(&room("b"), "m").await;
        assert_eq!(world.store.extent(&room("a")).await.unwrap().head.offset, 0);
        assert_eq!(world.untold("a").await, told);
        world.turn_over("b", 30).await;
        assert_eq!(world.untold("a").await, told);
    }

    async fn what_is_given_up_has_its_message(mut world) {
        world.reopen(|settings, _| settings.history_size = 3);
        let told = world.tell("a", 3).await;
        let page = world.store.webhooks(stream("a"), 1, usize::MAX).await.unwrap();
        let failed = Some((page[0].seq, page[0].id.clone(), "no".to_owned()));
        let settled = Settled { failed, ..Settled::of(stream("a")) };
        assert_eq!(world.store.settle_webhooks(settled).await, Ok(1));
        world.turn_over("a", 30).await;
        let none = FailedPlace::default();
        let failed = world.store.failed_webhooks(none, 10, usize::MAX).await.unwrap();
        assert_eq!(failed[0].webhook.message.as_ref(), Some(&told.1));
        let ids = world.store.failed_webhook_ids(none, 10).await.unwrap();
        // What was retried comes after what was told meanwhile.
        let second = world.tell("a", 4).await;
        assert_eq!(world.store.decide_webhooks(ids, Fate::Retried).await, Ok(1));
        assert_eq!(world.untold("a").await, [second, told]);
    }

    async fn a_record_stays_while_its_message_cannot_be_copied(world) {
        let mut told = Vec::new();
        for number in 0..4 {
            told.push(world.tell("a", number).await);
        }
        world.fail("UPDATE", "webhooks", 2);
        world.expire().await;
        assert_eq!((world.rows("log"), world.rows_where("data IS NULL")), (4, 4));
        assert_eq!(world.untold("a").await, told);
        world.heal();
        world.store.sweep().await.unwrap();
        assert_eq!((world.rows("log"), world.rows_where("data IS NULL")), (0, 0));
        assert_eq!(world.untold("a").await, told);
    }

    async fn a_damaged_message_is_not_told(world) {
        for number in 0..3 {
            world.tell("a", number).await;
        }
        world.store.with_writer(|conn| {
            conn.execute("UPDATE log SET json = replace(json, 'x', 'y') WHERE offset < 3", []).unwrap();
        });
        let jsons = async |world: &World| {
            world.untold("a").await.into_iter().map(|(_, message)| message.json).collect::<Vec<_>>()
        };
        let damaged = jsons(&world).await;
        assert_eq!(damaged.iter().map(|json| json.is_empty()).collect::<Vec<_>>(), [true, true, false]);
        world.expire().await;
        assert_eq!(world.rows("log"), 0);
        assert_eq!(jsons(&world).await, damaged, "nor is it copied as if it were sound");
    }
}

/// Readers go on while the log is turned over under them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_are_whole_while_their_messages_are_copied() {
    let mut world = World::on_a_file();
    world.reopen(|settings, _| settings.history_size = 20);
    let mut told = Vec::new();
    for number in 0..100 {
        told.push(world.tell("a", number).await);
    }
    let (store, expected) = (world.store.clone(), told.clone());
    let reads = tokio::spawn(async move {
        for _ in 0..200 {
            let page = store.webhooks(stream("a"), 1_000, usize::MAX).await.unwrap();
            let found = page.into_iter().map(|webhook| (webhook.id, webhook.message.unwrap()));
            assert_eq!(found.collect::<Vec<_>>(), expected);
        }
    });
    while !reads.is_finished() {
        world.turn_over("busy", 25).await;
    }
    reads.await.unwrap();
    assert_eq!(world.untold("a").await, told);
}

/// What a plain outbox would hold.
#[derive(Default)]
struct Model {
    waiting: BTreeMap<&'static str, Vec<(String, Option<WebhookMessage>)>>,
    failed: Vec<(&'static str, (String, Option<WebhookMessage>))>,
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[tokio::test]
async fn whatever_happens_the_outbox_is_that_of_the_model() {
    let mut world = World::on_a_file();
    world.reopen(|settings, _| {
        (settings.history_size, settings.max_rooms) = (4, 3);
        settings.webhook_limit = 1_000_000;
    });
    let mut state = 11_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut model = Model::default();
    for number in 0..800 {
        let name = NAMES[random(NAMES.len())];
        match random(12) {
            0..=5 => {
                let (id, message) = world.tell(name, number).await;
                model.waiting.entry(name).or_default().push((id, Some(message)));
            }
            6 => {
                let id = format!("announced_{number}");
                let webhook = Webhook {
                    id: id.clone(),
                    stream: stream(name),
                    at_ms: 1_000_000,
                    json: "{}".to_owned(),
                };
                let announcement =
                    Announcement { webhook: Some(webhook), fact: None, sender: None, room: None };
                world.store.announce(announcement);
                // It is done when this is.
                world.store.settle_webhooks(Settled::of(stream(name))).await.unwrap();
                model.waiting.entry(name).or_default().push((id, None));
            }
            7 | 8 => {
                let page = world.store.webhooks(stream(name), 1 + random(4), usize::MAX).await;
                let mut page = page.unwrap();
                let waiting = model.waiting.entry(name).or_default();
                let mut settled = Settled::of(stream(name));
                if random(3) == 0
                    && let Some(last) = page.pop()
                {
                    settled.failed = Some((last.seq, last.id, "no".to_owned()));
                    model.failed.push((name, waiting.remove(page.len())));
                }
                waiting.drain(..page.len());
                let delivered = page.into_iter().map(|webhook| (webhook.seq, webhook.id));
                settled.delivered = delivered.collect();
                world.store.settle_webhooks(settled).await.unwrap();
            }
            9 => {
                let none = FailedPlace::default();
                let failed = world.store.failed_webhook_ids(none, 1_000).await.unwrap();
                let retried = failed.into_iter().take(2).collect::<Vec<_>>();
                for (name, webhook) in model.failed.drain(..retried.len()) {
                    model.waiting.entry(name).or_default().push(webhook);
                }
                world.store.decide_webhooks(retried, Fate::Retried).await.unwrap();
            }
            10 => world.turn_over(name, 3).await,
            _ => world.reopen(|_, _| {}),
        }
        let page = world.store.webhooks(stream(name), 1_000, usize::MAX).await.unwrap();
        let found = page.into_iter().map(|webhook| (webhook.id, webhook.message));
        let expected = model.waiting.get(name).cloned().unwrap_or_default();
        assert_eq!(found.collect::<Vec<_>>(), expected, "after step {number}");
    }
    assert!(world.rows_where("data IS NOT NULL") > 10 && world.rows("failed_webhooks") < 400);
    let Backend::Embedded(store) = &world.store.backend else { panic!("not an embedded store") };
    store.check_index();
}
