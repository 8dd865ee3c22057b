//! `STORE_MAX_BYTES`, and the disk that is full.

use super::*;

const MAX: u64 = 4_000_000;

impl World {
    fn limited(&mut self) {
        self.reopen(|settings, _| settings.store_max_bytes = MAX);
    }

    async fn submit_sized(&self, name: &str, bytes: usize) -> Result<Position, StoreError> {
        let entry = Entry { json: "x".repeat(bytes).into(), ..self.entry("sized") };
        let append = Append {
            room: room(name),
            entry,
            except: Except::nobody(),
            sender: None,
            webhook: None,
        };
        self.store.append(append).await
    }

    async fn bytes(&self) -> u64 {
        self.store.sweep().await.unwrap();
        self.store.stats().bytes
    }
}

on_both! {
    async fn who_fills_a_room_loses_its_oldest_messages_and_no_others(mut world) {
        world.limited();
        for n in 0..20 {
            for _ in 0..5 {
                world.submit_sized(&format!("small-{n}"), 1_000).await.unwrap();
            }
        }
        let epoch = world.store.extent(&room("large")).await.unwrap().head.epoch;
        for n in 1..=400 {
            let appended = world.submit_sized("large", 50_000).await.unwrap();
            assert_eq!((appended.offset, appended.epoch), (n, epoch));
        }
        assert!(world.bytes().await < MAX, "{}", world.bytes().await);
        let large = world.store.extent(&room("large")).await.unwrap();
        assert!(large.oldest > 300 && large.oldest < 390, "{large:?}");
        assert_eq!(large.head, Position { offset: 400, epoch }, "what is gone shows in `oldest`");
        for n in 0..20 {
            assert_eq!(world.offsets(&room(&format!("small-{n}"))).await, [1, 2, 3, 4, 5]);
        }
        assert_eq!(world.store.health(), Health::Working);
        let stats = world.store.stats();
        assert_eq!((stats.trimmed, stats.refused), (large.oldest - 1, 0));
    }

    async fn who_fills_many_rooms_loses_there(mut world) {
        world.limited();
        for _ in 0..10 {
            world.submit_sized("small", 1_000).await.unwrap();
        }
        for n in 0..200 {
            for _ in 0..2 {
                world.submit_sized(&format!("large-{n}"), 100_000).await.unwrap();
            }
        }
        assert!(world.bytes().await < MAX);
        assert_eq!(world.offsets(&room("small")).await.len(), 10);
    }

    async fn where_nothing_is_left_to_trim_messages_are_refused_until_a_queue_is_gone(mut world) {
        world.limited();
        world.submit_sized("a", 1_000).await.unwrap();
        let mut places = Vec::new();
        let refused = loop {
            let entry = Entry { json: "x".repeat(200_000).into(), ..world.entry("q") };
            match world.store.enqueue(user(&places.len().to_string()), None, entry, None).await {
                Ok(place) => places.push(place),
                Err(refused) => break refused,
            }
            assert!(places.len() < 50, "it is not bounded");
        };
        assert!(matches!(&refused, StoreError::Full(reason) if reason.contains("STORE_MAX_BYTES")), "{refused}");
        assert!(places.len() >= 15, "{}", places.len());
        assert!(matches!(world.submit_sized("a", 10).await, Err(StoreError::Full(_))));
        let Health::Failing { reason, .. } = world.store.health() else { panic!("it is failing") };
        assert!(reason.contains("STORE_MAX_BYTES"), "{reason}");
        world.store.sweep().await.unwrap();
        assert!(matches!(world.store.health(), Health::Failing { .. }));
        assert_eq!(world.offsets(&room("a")).await, [1], "small rooms are left alone");
        let waiting = world.store.queued(&user("0"), 0, 10, usize::MAX).await.unwrap();
        assert_eq!(waiting.len(), 1, "what is queued is kept");

        for (n, place) in places.iter().enumerate().take(5) {
            assert_eq!(world.confirm(&n.to_string(), *place).await, 1);
        }
        world.store.sweep().await.unwrap();
        world.submit_sized("a", 10).await.unwrap();
        assert!(matches!(world.store.health(), Health::Failing { .. }), "not at once");
        for _ in 0..tuning().settle {
            world.store.sweep().await.unwrap();
        }
        assert_eq!(world.store.health(), Health::Working);
        assert_eq!(world.store.stats().refused, 2);
    }
}

#[tokio::test]
async fn the_reserve_lies_beside_the_file_and_is_taken_again() {
    let mut world = World::on_a_file();
    let reserve = world.file().with_extension("db.reserve");
    let held = || std::fs::metadata(&reserve).map_or(0, |file| file.len());
    assert_eq!(held(), 262_144);
    std::fs::remove_file(&reserve).unwrap();
    world.append(&room("a"), "m").await;
    world.reopen(|_, _| {});
    assert_eq!(held(), 262_144);
}
