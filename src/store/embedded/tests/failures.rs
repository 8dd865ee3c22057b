//! What happens when the store cannot do what is asked.

use super::*;

impl World {
    /// Lets the file grow by no more than `pages`.
    fn disk_full(&self, pages: i64) {
        self.store.with_writer(|conn| {
            let used: i64 = conn.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
            conn.query_row(&format!("PRAGMA max_page_count = {}", used + pages), [], |_| Ok(()))
                .unwrap();
        });
    }

    fn disk_has_room(&self) {
        self.store.with_writer(|conn| {
            conn.query_row("PRAGMA max_page_count = 1000000", [], |_| Ok(())).unwrap();
        });
    }

    /// Ticks until the writer considers the store working.
    async fn settle(&self) {
        for _ in 0..tuning().settle {
            assert!(matches!(self.store.health(), Health::Failing { .. }), "too early");
            self.store.sweep().await.unwrap();
        }
        assert_eq!(self.store.health(), Health::Working);
    }

    fn submit_large(&self) -> Pending<Position> {
        let entry = Entry { json: "x".repeat(100_000).into(), ..self.entry("large") };
        self.store.append(Append {
            room: room("new"),
            entry,
            except: Except::nobody(),
            sender: None,
            webhook: None,
        })
    }
}

on_both! {
    async fn a_full_disk_stores_nothing_takes_no_offset_and_heals_by_itself(world) {
        let epoch = world.submit(&room("a"), "1").await.unwrap().epoch;
        world.disk_full(2);
        // The connection is held, so that both come into one batch, whatever the writer is doing.
        let (small, large) = world.store.with_writer(|_| (world.submit(&room("a"), "2"), world.submit_large()));
        let (small, large) = (small.await, large.await);
        assert!(matches!(&large, Err(StoreError::Unavailable(reason)) if reason.contains("full")), "{large:?}");
        // The small one was in a batch of its own only if the writer took it before the large one
        // came.
        let stored: Vec<u64> = if small.is_ok() { vec![1, 2] } else { vec![1] };
        assert_eq!(world.offsets(&room("a")).await, stored);
        assert_eq!(world.store.extent(&room("new")).await.unwrap().head.offset, 0);
        assert_eq!(world.tail.borrow().len(), stored.len());
        assert_eq!(world.store.stats().rooms, 1);
        let Health::Failing { reason, since_ms } = world.store.health() else { panic!("it is failing") };
        assert!(reason.contains("full"), "{reason}");
        assert_eq!(since_ms, 1_000_000);

        world.disk_has_room();
        world.settle().await;
        let next = stored.len() as u64 + 1;
        assert_eq!(world.submit(&room("a"), "3").await, Ok(Position { offset: next, epoch }));
        assert_eq!(world.submit_large().await.unwrap().offset, 1);
        assert_eq!(world.store.health(), Health::Working);
        assert_eq!(world.store.stats().rooms, 2);
    }

    async fn every_caller_of_a_failed_batch_is_told(world) {
        world.append(&room("a"), "1").await;
        world.disk_full(2);
        let pending: Vec<_> = (0..5).map(|_| world.submit_large()).collect();
        let queued = world.store.enqueue(user("ann"), None, Entry { json: "x".repeat(50_000).into(), ..world.entry("q") }, None);
        let told = |error: &StoreError| matches!(error, StoreError::Unavailable(_) | StoreError::Full(_));
        for pending in pending {
            assert!(told(&pending.await.unwrap_err()));
        }
        assert!(told(&queued.await.unwrap_err()));
        assert_eq!(world.store.queue_len(&user("ann")).await.unwrap(), 0);
    }

    async fn too_many_waiting_writes_are_refused_and_the_others_keep_their_order(mut world) {
        world.reopen(|_, tuning| tuning.limits.commands = 5);
        // While the connection is held, the writer gets no further than one batch of at most five.
        let pending: Vec<_> =
            world.store.with_writer(|_| (0..20).map(|n| world.submit(&room("a"), &n.to_string())).collect());
        let (mut stored, mut refused) = (Vec::new(), 0);
        for pending in pending {
            match pending.await {
                Ok(appended) => stored.push(appended.offset),
                Err(StoreError::Unavailable(reason)) => {
                    assert!(reason.contains("too many writes"), "{reason}");
                    refused += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!((10..=15).contains(&refused), "{refused}");
        assert_eq!(stored, (1..=20 - refused).collect::<Vec<_>>());
    }

    async fn a_write_over_the_bytes_that_may_wait_is_refused(mut world) {
        world.reopen(|_, tuning| tuning.limits.bytes = 50_000);
        assert!(matches!(world.submit_large().await, Err(StoreError::Unavailable(_))));
        assert_eq!(world.append(&room("a"), "small").await, 1);
    }
}

#[tokio::test]
async fn the_writer_finds_out_by_itself_that_the_disk_has_room_again() {
    let mut world = World::on_a_file();
    world.append(&room("a"), "1").await;
    world.disk_full(2);
    world.submit_large().await.unwrap_err();
    world.disk_has_room();
    assert!(matches!(world.store.health(), Health::Failing { .. }));
    world.settle().await;
    // The same, on the writer's own ticks.
    world.reopen(|_, tuning| tuning.tick = Duration::from_millis(1));
    world.disk_full(2);
    world.submit_large().await.unwrap_err();
    world.disk_has_room();
    let healed = async {
        while world.store.health() != Health::Working {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), healed).await.unwrap();
}

#[tokio::test]
async fn a_file_locked_by_somebody_else_fails_the_batch_and_recovers() {
    let world = World::on_a_file();
    world.append(&room("a"), "1").await;
    let other = Connection::open(world.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = world.submit(&room("a"), "2").await;
    assert!(
        matches!(&refused, Err(StoreError::Unavailable(reason)) if reason.contains("locked")),
        "{refused:?}"
    );
    assert_eq!(world.offsets(&room("a")).await, [1], "it can still be read");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(world.append(&room("a"), "2").await, 2);
}

#[tokio::test]
async fn a_tail_that_panics_ends_the_store_and_leaves_no_caller_waiting() {
    let clock = Arc::new(AtomicI64::new(0));
    let settings = settings(Location::Memory, &clock);
    let store = Store::open_tuned(settings, tuning(), |_| panic!("as the test wants it")).unwrap();
    let entry = entry();
    for _ in 0..2 {
        let append = Append {
            room: room("a"),
            entry: entry.clone(),
            except: Except::nobody(),
            sender: None,
            webhook: None,
        };
        assert!(matches!(store.append(append).await, Err(StoreError::Unavailable(_))));
    }
    store.close().await;
    assert_eq!(store.health(), Health::Closed);
}

#[test]
fn a_client_is_not_told_why_the_store_is_unavailable() {
    let refusal = crate::protocol::refusal::Refusal::from(StoreError::Unavailable(
        "/secret/path: disk full".into(),
    ));
    assert_eq!(refusal.code, crate::protocol::refusal::Code::Unavailable);
    assert!(!refusal.message.contains("secret"), "{}", refusal.message);
}
