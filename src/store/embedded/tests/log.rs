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
async fn a_smaller_limit_is_reached_step_by_step() {
    let mut world = World::on_a_file();
    let pending: Vec<_> = (1..=2_000).map(|n| world.submit(&room("a"), &n.to_string())).collect();
    for pending in pending {
        let _ = pending.await.unwrap();
    }
    world.reopen(|settings, _| settings.history_size = 10);
    assert_eq!(world.offsets(&room("a")).await, (1_991..=2_000).collect::<Vec<_>>());
    let before = world.rows("messages");
    world.append(&room("a"), "m").await;
    let deleted = before + 1 - world.rows("messages");
    assert!((1..=258).contains(&deleted), "one commit deletes a bounded number: {deleted}");
    for _ in 0..10 {
        world.append(&room("a"), "m").await;
    }
    assert!(world.rows("messages") <= 11);
}

#[test]
fn a_sweep_step_is_bounded_and_the_next_goes_on() {
    let clock = Arc::new(AtomicI64::new(1_000_000));
    let settings = settings(Location::Memory, &clock);
    let opened = schema::open(&settings, None).unwrap();
    let place = Place::new(&settings, Box::new(|_| false));
    let mut rooms = Rooms::new(&opened.conn, opened.epochs, 2, place).unwrap();
    let entry = entry();
    for name in ["a", "b", "c"] {
        let room = rooms.find_or_create(&opened.conn, &room(name), None, 0).unwrap().unwrap();
        for _ in 0..25 {
            room.append(&opened.conn, &entry, &Except::nobody()).unwrap();
        }
    }
    let left = || {
        opened
            .conn
            .query_row("SELECT count(*) FROM messages", [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    let mut sweep = sweep::Sweep::default();
    let mut seen = vec![left()];
    while sweep.step(&opened.conn, &mut rooms, &settings, 10).unwrap() == sweep::Progress::More {
        seen.push(left());
    }
    assert_eq!(seen, [75, 65, 55, 45, 35, 25, 15, 5]);
    assert_eq!(left(), 0);
    // The writer's cache was updated.
    let room = rooms.find(&opened.conn, &room("c")).unwrap().unwrap();
    assert_eq!((room.head, room.first), (25, 26));
}
