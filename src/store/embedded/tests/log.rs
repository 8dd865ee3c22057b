//! What is special to the embedded log.

use super::*;

on_both! {
    async fn the_tail_has_a_message_before_its_caller_has_the_answer(world) {
        for n in 1..=20 {
            let appended = world.submit(&room("a"), "m").await.unwrap();
            let last = world.tail.borrow().last().cloned().unwrap();
            assert_eq!(last.position, appended.at(n));
        }
    }
}

#[tokio::test]
async fn a_smaller_limit_is_in_force_at_once() {
    let mut world = World::on_a_file();
    let pending: Vec<_> = (1..=2_000).map(|n| world.submit(&room("a"), &n.to_string())).collect();
    for pending in pending {
        let _ = pending.await.unwrap();
    }
    world.reopen(|settings, _| settings.history_size = 10);
    assert_eq!(world.offsets(&room("a")).await, (1_991..=2_000).collect::<Vec<_>>());
    world.append(&room("a"), "m").await;
    assert!(world.rows("messages") <= 11);
}

#[test]
fn a_sweep_step_is_bounded_and_the_next_goes_on() {
    let clock = Arc::new(AtomicI64::new(1_000_000));
    let settings = settings(Location::Memory, &clock);
    let (conn, mut rooms) = without_writer(&settings);
    let conn = &conn;
    let entry = entry();
    for name in ["a", "b", "c"] {
        let found = rooms.find_or_create(conn, &room(name), None, 0).unwrap().unwrap();
        let stored = rooms.append(conn, found, &entry, &Except::nobody(), 10, &mut 0).unwrap();
        assert_eq!(stored.offset, 1);
        for n in 0..25 {
            conn.execute(
                "INSERT INTO receipts (room, offset, user, at) VALUES (?1, 1, ?2, 0)",
                rusqlite::params![found.id, n],
            )
            .unwrap();
        }
    }
    rooms.commit();
    let left =
        || conn.query_row("SELECT count(*) FROM receipts", [], |row| row.get::<_, i64>(0)).unwrap();
    let mut keys = idempotency::load(conn).unwrap();
    let mut sweep = sweep::Sweep::default();
    let mut seen = vec![left()];
    while sweep.step(conn, &mut rooms, &mut keys, &settings, 10).unwrap() == sweep::Progress::More {
        rooms.commit();
        seen.push(left());
    }
    rooms.commit();
    assert_eq!(seen, [75, 65, 55, 45, 35, 25, 15, 5]);
    assert_eq!(left(), 0);
    let room = rooms.find(&room("c")).unwrap();
    assert_eq!((room.head, room.first), (1, 2));
}
