//! The offline users' queues.

use super::*;

impl World {
    async fn enqueue(&self, who: &str, from: Option<&str>, id: &str) -> Result<u64, StoreError> {
        self.store.enqueue(user(who), from.map(sender), self.entry(id), None).await
    }

    /// Confirms as the holder of the claim.
    pub(in crate::store) async fn confirm(&self, who: &str, up_to: u64) -> u64 {
        let claim = self.store.claim_queue(&user(who), "node", Duration::from_mins(1)).await;
        assert_eq!(claim, Ok(true));
        let confirmed = self.store.confirm(user(who), up_to, "node").await.unwrap();
        confirmed.expect("the claim is held")
    }

    async fn waiting(&self, who: &str) -> Vec<String> {
        let items = self.store.queued(&user(who), 0, 1_000, usize::MAX).await.unwrap();
        items.into_iter().map(|item| item.entry.id).collect()
    }
}

on_every_and_two! {
    async fn messages_wait_in_order_until_they_are_confirmed(world) {
        let mut places = Vec::new();
        for id in ["1", "2", "3"] {
            places.push(world.enqueue("ann", None, id).await.unwrap());
            world.enqueue("bob", None, id).await.unwrap();
        }
        assert_eq!(world.waiting("ann").await, ["1", "2", "3"]);
        let rest = world.store.queued(&user("ann"), places[0], 1, usize::MAX).await.unwrap();
        assert_eq!(rest, [QueuedItem { seq: places[1], entry: world.entry("2") }]);
        assert_eq!(world.store.queued(&user("ann"), 0, 10, 1).await.unwrap().len(), 1, "one always fits");
        assert_eq!(world.confirm("ann", places[1]).await, 2);
        assert_eq!(world.waiting("ann").await, ["3"]);
        assert_eq!(world.store.queue_len(&user("ann")).await.unwrap(), 1);
        assert_eq!(world.store.queue_len(&user("bob")).await.unwrap(), 3);
    }

    async fn a_place_is_never_used_again(world) {
        let first = world.enqueue("ann", None, "1").await.unwrap();
        world.confirm("ann", first).await;
        let second = world.enqueue("ann", None, "2").await.unwrap();
        assert!(second > first);
        assert_eq!(world.confirm("ann", first).await, 0, "a late confirmation takes nothing new");
        assert_eq!(world.waiting("ann").await, ["2"]);
    }

    async fn a_sender_holds_a_tenth_and_a_backend_fills_the_rest(world) {
        for _ in 0..2 {
            world.enqueue("ann", Some("eve"), "e").await.unwrap();
        }
        assert_eq!(world.enqueue("ann", Some("eve"), "e").await, Err(StoreError::QueueFull));
        world.enqueue("bob", Some("eve"), "e").await.unwrap();
        world.enqueue("ann", Some("joe"), "j").await.unwrap();
        for _ in 0..17 {
            world.enqueue("ann", None, "b").await.unwrap();
        }
        assert_eq!(world.enqueue("ann", None, "b").await, Err(StoreError::QueueFull));
        assert_eq!(world.enqueue("ann", Some("kim"), "k").await, Err(StoreError::QueueFull));
        assert_eq!(world.store.queue_len(&user("ann")).await.unwrap(), 20);
        assert_eq!(world.store.health(), Health::Working, "a refusal is no failure");
    }

    async fn even_the_smallest_queue_takes_one_of_a_sender(mut world) {
        world.reopen(|settings, _| settings.queue_size = 1);
        world.enqueue("ann", Some("eve"), "e").await.unwrap();
        assert_eq!(world.enqueue("ann", Some("joe"), "j").await, Err(StoreError::QueueFull));
    }

    async fn what_waited_too_long_is_gone_and_frees_its_place(world) {
        world.enqueue("ann", Some("eve"), "1").await.unwrap();
        world.advance(50);
        world.enqueue("ann", Some("eve"), "2").await.unwrap();
        world.advance(50);
        assert_eq!(world.waiting("ann").await, ["2"]);
        assert_eq!(world.store.queue_len(&user("ann")).await.unwrap(), 1);
        world.enqueue("ann", Some("eve"), "3").await.unwrap();
        assert!(world.rows("queue") <= 3);
        world.store.sweep().await.unwrap();
        assert_eq!(world.rows("queue"), 2);
        assert_eq!(world.waiting("ann").await, ["2", "3"]);
    }

    async fn the_queue_works_without_history(mut world) {
        world.reopen(|settings, _| settings.history_size = 0);
        world.enqueue("ann", None, "1").await.unwrap();
        assert_eq!(world.waiting("ann").await, ["1"]);
    }

    async fn a_sender_holds_a_limited_number_over_all_users(mut world) {
        world.reopen(|settings, _| settings.queue_sender_limit = 5);
        let mut places = Vec::new();
        for n in 0..5 {
            places.push(world.enqueue(&format!("invented-{n}"), Some("eve"), "e").await.unwrap());
        }
        for who in ["invented-0", "invented-5"] {
            assert_eq!(world.enqueue(who, Some("eve"), "e").await, Err(StoreError::SenderQueueFull));
        }
        world.enqueue("invented-0", Some("joe"), "j").await.unwrap();
        for n in 0..20 {
            world.enqueue(&format!("user-{n}"), None, "a backend's").await.unwrap();
        }
        assert_eq!(world.confirm("invented-3", places[3]).await, 1);
        world.enqueue("another", Some("eve"), "what is delivered makes place").await.unwrap();
        assert_eq!(world.enqueue("another", Some("eve"), "e").await, Err(StoreError::SenderQueueFull));
        assert_eq!(world.store.health(), Health::Working, "a refusal is no failure");
        world.reopen(|_, _| {});
        if world.survives {
            assert_eq!(world.enqueue("another", Some("eve"), "e").await, Err(StoreError::SenderQueueFull));
        }
        world.advance(100);
        for n in 0..5 {
            world.enqueue(&format!("late-{n}"), Some("eve"), "what is too old makes place").await.unwrap();
        }
        assert_eq!(world.enqueue("late-5", Some("eve"), "e").await, Err(StoreError::SenderQueueFull));
    }

    async fn a_sender_holds_a_limited_number_of_bytes_over_all_users(mut world) {
        world.reopen(|settings, _| settings.queue_sender_limit = 5);
        let enqueue = async |who: &str, size: usize| {
            let entry = Entry { json: "x".repeat(size).into(), ..world.entry("e") };
            world.store.enqueue(user(who), Some(sender("eve")), entry, None).await
        };
        let place = enqueue("a", 90_000).await.expect("one always fits");
        assert_eq!(enqueue("b", 1).await, Err(StoreError::SenderQueueFull));
        world.confirm("a", place).await;
        enqueue("a", 20_000).await.unwrap();
        enqueue("b", 20_000).await.unwrap();
        assert_eq!(enqueue("c", 20_000).await, Err(StoreError::SenderQueueFull));
        enqueue("c", 5_000).await.unwrap();
    }
}
