//! Webhooks that wait for the application's backend.

use super::*;

fn webhook(id: &str, stream: &str) -> Webhook {
    let stream = Stream::of_user(&user(stream));
    Webhook { id: id.to_owned(), stream, at_ms: 1_000_000, json: format!("{{\"{id}\"") }
}

impl World {
    fn announce(&self, id: &str, stream: &str) {
        let webhook = Some(webhook(id, stream));
        self.store.announce(Announcement { webhook, fact: None, sender: None, room: None });
    }

    fn note(&self, fact: &Fact, holds: bool) {
        let about = match fact {
            Fact::Room(room) => Some(room.clone()),
            Fact::Node(_) | Fact::User(_) => None,
        };
        let fact = Some((fact.clone(), holds));
        self.store.announce(Announcement { webhook: None, fact, sender: None, room: about });
    }

    /// Everything that was asked for is done.
    async fn done(&self) {
        self.store.settle_webhooks(Settled::of(Stream::of_user(&user("ann")))).await.unwrap();
    }

    async fn page(&self, stream: &str) -> Vec<StoredWebhook> {
        let stream = Stream::of_user(&user(stream));
        self.store.webhooks(stream, 100, usize::MAX).await.unwrap()
    }

    async fn waiting_for_backend(&self, stream: &str) -> Vec<String> {
        self.page(stream).await.into_iter().map(|webhook| webhook.id).collect()
    }
}

on_both! {
    async fn webhooks_wait_in_the_order_of_their_stream_until_they_are_settled(mut world) {
        for id in ["1", "2", "3"] {
            world.announce(id, "ann");
            world.announce(&format!("b{id}"), "bob");
        }
        world.done().await;
        assert_eq!(world.waiting_for_backend("ann").await, ["1", "2", "3"]);
        assert_eq!(world.store.stats().webhooks, 6);
        let page = world.page("ann").await;
        let failed = Some((page[1].seq, page[1].id.clone(), "no".to_owned()));
        let settled = Settled { stream: Stream::of_user(&user("ann")), delivered: vec![(page[0].seq, "1".into()), (page[2].seq, "another".into())], failed };
        assert_eq!(world.store.settle_webhooks(settled.clone()).await.unwrap(), 2);
        assert_eq!(world.store.settle_webhooks(settled).await.unwrap(), 0, "they are gone");
        assert_eq!(world.waiting_for_backend("ann").await, ["3"]);
        assert_eq!((world.store.stats().webhooks, world.store.stats().webhooks_failed), (4, 1));
        let streams = HashSet::from(["ann", "bob"].map(|name| Stream::of_user(&user(name))));
        assert_eq!(world.store.webhook_streams().await.unwrap(), streams);
        assert_eq!(world.store.changed_streams().await, streams);
        if world.survives {
            world.reopen(|_, _| {});
            assert_eq!(world.waiting_for_backend("bob").await, ["b1", "b2", "b3"]);
            assert_eq!(world.store.stats().webhooks, 4);
        }
    }

    async fn a_message_and_its_webhook_are_stored_together_or_not_at_all(world) {
        let append = |id: &str, sender: Option<SenderId>| Append {
            room: room("a"),
            entry: Entry { attachments: vec![bytes("x")], ..world.entry(id) },
            except: Except::nobody(),
            sender,
            webhook: Some(webhook(id, "ann")),
        };
        let position = world.store.append(append("1", None)).await.unwrap();
        let page = world.page("ann").await;
        let entry = Entry { attachments: vec![bytes("x")], ..world.entry("1") };
        let message = WebhookMessage { position, json: entry.json, attachments: entry.attachments };
        assert_eq!((&page[0].json, page[0].message.as_ref()), (&"{\"1\"".to_owned(), Some(&message)));
        for place in 0..20 {
            let told = Some(webhook(&place.to_string(), "bob"));
            world.store.enqueue(user("bob"), None, world.entry("q"), told).await.unwrap();
        }
        let told = Some(webhook("refused", "bob"));
        let refused = world.store.enqueue(user("bob"), None, world.entry("q"), told).await;
        assert_eq!(refused, Err(StoreError::QueueFull));
        assert_eq!(world.waiting_for_backend("bob").await.len(), 20, "a refused message is not told");
    }

    async fn a_full_outbox_drops_the_oldest_announcements_and_no_message(world) {
        world.store.tell(&room("a"), webhook("m0", "ann")).await.unwrap();
        for n in 0..1_000 {
            world.announce(&n.to_string(), "ann");
        }
        world.done().await;
        assert_eq!(world.store.stats().webhooks_dropped, 1);
        let waiting = world.waiting_for_backend("ann").await;
        assert_eq!(waiting[..2], ["m0", "1"]);
        for n in 1..=1_000 {
            world.store.tell(&room("a"), webhook(&format!("m{n}"), "ann")).await.unwrap();
        }
        let waiting = world.store.webhooks(Stream::of_user(&user("ann")), 2_000, usize::MAX).await;
        let waiting = waiting.unwrap().into_iter().map(|webhook| webhook.id).collect::<Vec<_>>();
        assert_eq!(waiting, (0..=1_000).map(|n| format!("m{n}")).collect::<Vec<_>>());
        assert_eq!((world.store.stats().webhooks, world.store.stats().webhooks_dropped), (1_001, 1_000));
    }

    async fn what_nobody_could_try_is_given_up_in_the_end(world) {
        world.announce("old", "ann");
        world.done().await;
        let four_days = i64::try_from(Duration::from_hours(4 * 24).as_millis()).unwrap();
        world.clock.store(1_000_000 + four_days - 1, SeqCst);
        world.store.sweep().await.unwrap();
        assert_eq!(world.waiting_for_backend("ann").await, ["old"]);
        world.clock.store(1_000_000 + four_days, SeqCst);
        world.store.sweep().await.unwrap();
        assert!(world.waiting_for_backend("ann").await.is_empty());
        assert_eq!((world.store.stats().webhooks, world.store.stats().webhooks_failed), (0, 1));
        assert_eq!(world.rows("failed_webhooks"), 1);
        world.clock.fetch_add(2 * four_days, SeqCst);
        world.store.sweep().await.unwrap();
        assert_eq!(world.rows("failed_webhooks"), 0);
    }

    async fn what_the_backend_was_told_is_known_after_a_restart(mut world) {
        let facts = [Fact::Node("n".into()), Fact::User(user("ann")), Fact::Room(room("a"))];
        for fact in &facts {
            world.note(fact, true);
            world.note(fact, true);
        }
        world.note(&Fact::User(user("bob")), true);
        world.note(&Fact::User(user("bob")), false);
        world.done().await;
        if world.survives {
            world.reopen(|_, _| {});
        }
        assert_eq!(world.store.webhook_facts().await.unwrap(), facts);
    }
}

#[tokio::test]
async fn nodes_that_share_an_outbox_keep_the_order_and_no_other_takes_anything_out() {
    let server = Arc::new(RedisServer::start());
    let mut world = World::on(&server);
    world.reopen(|settings, _| settings.webhook_limit = 5);
    world.store.tell(&room("a"), webhook("m0", "ann")).await.unwrap();
    for n in 1..=6 {
        world.announce(&n.to_string(), "ann");
    }
    world.store.tell(&room("a"), webhook("m1", "ann")).await.unwrap();
    // The oldest announcements have made way.
    assert_eq!(world.waiting_for_backend("ann").await, ["m0", "4", "5", "6", "m1"]);
    let ann = Stream::of_user(&user("ann"));
    let page = world.page("ann").await;
    let delivered = vec![(page[0].seq, page[0].id.clone()), (page[1].seq, page[1].id.clone())];
    let failed = Some((page[2].seq, page[2].id.clone(), "no".to_owned()));
    let settled = Settled { stream: ann, delivered, failed };
    assert_eq!(world.store.settle_webhooks(settled.clone()).await, Ok(0), "it does not deliver");
    assert_eq!(world.store.claim_webhooks(Duration::from_mins(1)).await, Ok(true));
    assert_eq!(world.store.changed_streams().await, HashSet::from([ann]));
    assert_eq!(world.store.settle_webhooks(settled.clone()).await, Ok(3));
    assert_eq!(world.store.settle_webhooks(settled).await, Ok(0), "they are gone");
    assert_eq!(world.waiting_for_backend("ann").await, ["6", "m1"]);
    assert_eq!(world.store.webhook_streams().await, Ok(HashSet::from([ann])));
    // Nobody is online, so nothing is told of a user.
    let told = Announcement {
        webhook: Some(webhook("online", "bob")),
        fact: Some((Fact::User(user("bob")), true)),
        sender: None,
        room: None,
    };
    world.store.announce(told);
    world.store.tell(&room("a"), webhook("m2", "bob")).await.unwrap();
    assert_eq!(world.waiting_for_backend("bob").await, ["m2"]);
    assert_eq!(world.store.release_webhooks().await, Ok(true));
}

/// What a look through the facts finds, once around.
async fn found(world: &World, of: Stale) -> Vec<Fact> {
    let (cursor, found) = world.store.stale_facts(of, "0").await.unwrap();
    assert_eq!(cursor, "0");
    found
}

#[tokio::test]
async fn a_room_that_nodes_share_is_vacated_when_the_last_of_all_has_been_gone_for_a_while() {
    let server = Arc::new(RedisServer::start());
    let mut world = World::on(&server);
    let prefix = world.redis.as_ref().unwrap().1.clone();
    let (key, fact) = (room("a"), Fact::Room(room("a")));
    let tell = |world: &World, id: &str, holds| {
        let fact = Some((fact.clone(), holds));
        let webhook = Some(webhook(id, "ann"));
        world.store.announce(Announcement { webhook, fact, sender: None, room: Some(key.clone()) });
    };
    world.occupy(&key).await;
    tell(&world, "occupied", true);
    tell(&world, "occupied by another node's member", true);
    tell(&world, "vacated, but for another node's member", false);
    world.done().await;
    assert!(found(&world, Stale::Rooms).await.is_empty());
    world.vacate().await;
    world.store.room_left(&key, sender("bob"));
    world.done().await;
    tell(&world, "vacated too early", false);
    world.done().await;
    assert_eq!(world.waiting_for_backend("ann").await, ["occupied"]);
    assert_eq!(found(&world, Stale::Rooms).await, std::slice::from_ref(&fact));
    // Some seconds later.
    server.command(&format!("HINCRBY {prefix}:told:left /\u{1f}a -4000"));
    tell(&world, "vacated", false);
    tell(&world, "vacated again", false);
    world.done().await;
    assert_eq!(world.waiting_for_backend("ann").await, ["occupied", "vacated"]);
    assert!(found(&world, Stale::Rooms).await.is_empty());
    assert_eq!(server.command(&format!("EXISTS {prefix}:told:left")), ::redis::Value::Int(0));
}

#[tokio::test]
async fn a_redis_that_lost_its_data_is_told_anew_what_holds() {
    let server = Arc::new(RedisServer::start());
    let mut world = World::on(&server);
    world.occupy(&room("a")).await;
    world.occupy(&room("b")).await;
    world.note(&Fact::Room(room("a")), true);
    world.done().await;
    assert_eq!(found(&world, Stale::UntoldRooms).await, [Fact::Room(room("b"))]);
    world.note(&Fact::Room(room("b")), true);
    world.done().await;
    assert!(found(&world, Stale::UntoldRooms).await.is_empty());
    server.command("FLUSHALL");
    let untold = found(&world, Stale::UntoldRooms).await.into_iter().collect::<HashSet<_>>();
    assert_eq!(untold, HashSet::from([room("a"), room("b")].map(Fact::Room)));
    let prefix = world.redis.as_ref().unwrap().1.clone();
    server.command(&format!("SADD {prefix}:online ann bob"));
    world.note(&Fact::User(user("bob")), true);
    world.note(&Fact::User(user("cleo")), true);
    world.done().await;
    assert_eq!(found(&world, Stale::UntoldUsers).await, [Fact::User(user("ann"))]);
    server.command(&format!("SREM {prefix}:online bob"));
    assert_eq!(found(&world, Stale::Users).await, [Fact::User(user("bob"))]);
}

#[tokio::test]
async fn a_node_that_lost_the_claim_gets_no_streams_and_one_that_has_it_gets_all() {
    let server = Arc::new(RedisServer::start());
    let world = World::on(&server);
    let prefix = world.redis.as_ref().unwrap().1.clone();
    assert_eq!(world.store.claim_webhooks(Duration::from_mins(1)).await, Ok(true));
    let claim = format!("{prefix}:claim:\u{1f}webhooks");
    server.command(&format!("SET {claim} another"));
    assert_eq!(world.store.claim_webhooks(Duration::from_mins(1)).await, Ok(false));
    assert_eq!(world.store.release_webhooks().await, Ok(false));
    world.store.tell(&room("a"), webhook("1", "ann")).await.unwrap();
    let page = world.page("ann").await;
    let ann = Stream::of_user(&user("ann"));
    let settled = Settled {
        stream: ann,
        delivered: vec![(page[0].seq, page[0].id.clone())],
        failed: Some((page[0].seq, page[0].id.clone(), "no".to_owned())),
    };
    assert_eq!(world.store.settle_webhooks(settled).await, Ok(0));
    server.command(&format!("DEL {claim}"));
    assert_eq!(world.store.claim_webhooks(Duration::from_mins(1)).await, Ok(true));
    assert_eq!(world.store.changed_streams().await, HashSet::from([ann]));
    assert_eq!(world.waiting_for_backend("ann").await, ["1"]);
}

on_every! {
    async fn what_was_given_up_waits_again_or_is_forgotten(mut world) {
        world.reopen(|settings, _| settings.webhook_limit = 2);
        assert_eq!(world.store.claim_webhooks(Duration::from_mins(1)).await, Ok(true));
        let entry = Entry { attachments: vec![bytes("x")], ..world.entry("m") };
        let append = Append {
            room: room("a"),
            entry,
            except: Except::nobody(),
            sender: None,
            webhook: Some(webhook("m", "ann")),
        };
        let position = world.store.append(append).await.unwrap();
        world.announce("3", "ann");
        world.done().await;
        let given_up = world.page("ann").await;
        assert_eq!(given_up[0].message.as_ref().map(|message| message.position), Some(position));
        for webhook in &given_up {
            let failed = Some((webhook.seq, webhook.id.clone(), format!("no {}", webhook.id)));
            let settled = Settled { failed, ..Settled::of(Stream::of_user(&user("ann"))) };
            assert_eq!(world.store.settle_webhooks(settled).await, Ok(1));
        }
        assert!(world.waiting_for_backend("ann").await.is_empty());
        let none = FailedPlace::default();
        let failed = world.store.failed_webhooks(none, 10, usize::MAX).await.unwrap();
        assert_eq!(world.store.failed_webhook_count().await, Ok(2));
        assert_eq!(failed.iter().map(|it| it.error.as_str()).collect::<Vec<_>>(), ["no m", "no 3"]);
        for (failed, given_up) in failed.iter().zip(&given_up) {
            assert_eq!(failed.place.to_string().parse(), Ok(failed.place));
            let same = StoredWebhook { seq: given_up.seq, ..failed.webhook.clone() };
            assert_eq!(&same, given_up);
        }
        let behind = world.store.failed_webhooks(failed[0].place, 10, usize::MAX).await.unwrap();
        assert_eq!(behind, failed[1..]);
        assert_eq!(world.store.failed_webhooks(none, 10, 1).await.unwrap(), failed[..1]);
        let ids = world.store.failed_webhook_ids(none, 10).await.unwrap();
        assert_eq!(world.store.failed_webhook_ids(none, 1).await.unwrap(), ids[..1]);
        assert_eq!(world.store.failed_webhook_ids(ids[0].0, 10).await.unwrap(), ids[1..]);
        world.advance(5);
        assert_eq!(world.store.decide_webhooks(ids.clone(), Fate::Retried).await, Ok(2));
        assert_eq!(world.store.decide_webhooks(ids, Fate::Retried).await, Ok(0), "they are gone");
        let again = world.page("ann").await;
        let renewed = |webhook: &StoredWebhook, seq| StoredWebhook {
            seq,
            at_ms: 1_005_000,
            ..webhook.clone()
        };
        let expected = given_up.iter().zip(&again).map(|(webhook, it)| renewed(webhook, it.seq));
        assert_eq!(again, expected.collect::<Vec<_>>());
        assert_eq!(world.store.failed_webhook_count().await, Ok(0));
        // What could be dropped can be dropped again.
        world.announce("4", "ann");
        world.done().await;
        assert_eq!(world.waiting_for_backend("ann").await, ["m", "4"]);
        let failed = Some((again[0].seq, "m".to_owned(), "no".to_owned()));
        let settled = Settled { failed, ..Settled::of(Stream::of_user(&user("ann"))) };
        assert_eq!(world.store.settle_webhooks(settled).await, Ok(1));
        let ids = world.store.failed_webhook_ids(none, 10).await.unwrap();
        assert_eq!(world.store.decide_webhooks(ids, Fate::Discarded).await, Ok(1));
        assert_eq!(world.store.failed_webhook_count().await, Ok(0));
        assert_eq!(world.waiting_for_backend("ann").await, ["4"]);
        world.store.hurry_webhooks().await.unwrap();
        world.store.webhooks_hurried().await;
    }
}
