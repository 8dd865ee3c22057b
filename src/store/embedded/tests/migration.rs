//! Files of former versions are brought to this one's layout, however often that is interrupted.

use std::fs;

use super::{files::refused, *};
use crate::store::{
    Stored,
    embedded::log::pack,
    idempotency::{Before, Done},
    tests::sender,
};

/// A file with the first version of the schema: two rooms, one of them emptied, and a queue.
fn of_the_first_version(path: &Path) {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(include_str!("../migrations/1.sql")).unwrap();
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA application_id = 0x726d6374; PRAGMA user_version = 1;
         INSERT INTO meta VALUES (1, 7, 8, 'one', 1);
         INSERT INTO rooms VALUES (1, '/', 'a', 21, 0, 0), (2, '/', 'emptied', 22, 9, 500);
         INSERT INTO messages VALUES (1, 1, 999000, 0, 'm', 'e', '{}', NULL), (1, 2, 999500, 0, 'n', 'e', '{}', NULL);
         INSERT INTO receipts VALUES (1, 1, 2, 'ann', 999600);
         INSERT INTO queue VALUES (5, 'bob', 'eve', 999000, 'q', 'e', '{}', NULL), (6, 'bob', NULL, 999000, 'r', 'e', '{}', x'00');",
    )
    .unwrap();
}

#[tokio::test]
async fn a_file_of_the_first_version_is_taken_over() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("roomcast.db");
    of_the_first_version(&path);
    let mut world = World::at(Location::File(path));
    let page = world.all(&room("a")).await;
    let found: Vec<_> = page.items.iter().map(|item| (item.offset, item.receipts.len())).collect();
    assert_eq!(found, [(1, 0), (2, 1)]);
    assert_eq!(page.extent.head.epoch.to_string(), format!("{:016x}", 0x15 ^ 0x8));
    assert_eq!(world.store.extent(&room("emptied")).await.unwrap().head.offset, 9);
    let queued = world.store.queued(&user("bob"), 0, 10, 1_000).await.unwrap();
    assert_eq!(queued.iter().map(|item| item.seq).collect::<Vec<_>>(), [5, 6]);
    let sizes: i64 = world.store.with_writer(|conn| {
        conn.query_row("SELECT sum(size) FROM queue", [], |row| row.get(0)).unwrap()
    });
    assert_eq!(sizes, 9, "each has an id, an event and {{}}, and one an attachment");
    // The emptied room makes way first, then the other one.
    world.reopen(|settings, _| settings.max_rooms = 2);
    for (name, left) in [("b", 2), ("c", 0)] {
        world.append(&room(name), "1").await;
        assert_eq!(world.store.extent(&room("emptied")).await.unwrap().head.offset, 0);
        assert_eq!(world.store.extent(&room("a")).await.unwrap().head.offset, left);
    }
}

#[tokio::test]
async fn a_file_of_before_it_was_stored_who_is_left_out_is_taken_over() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("roomcast.db");
    of_the_first_version(&path);
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch(include_str!("../migrations/2.sql")).unwrap();
    conn.pragma_update(None, "user_version", 2).unwrap();
    drop(conn);
    let world = World::at(Location::File(path));
    let except = Except { users: vec![user("ann")], ..Except::nobody() };
    let entry = world.entry("new");
    let append =
        Append { room: room("a"), entry, except: except.clone(), sender: None, webhook: None };
    assert_eq!(world.store.append(append).await.unwrap().offset, 3);
    let read = world.all(&room("a")).await.items.into_iter();
    let read: Vec<_> = read.map(|item| (item.entry.id, item.except)).collect();
    let nobody = Except::nobody;
    let expected = [("m", nobody()), ("n", nobody()), ("new", except)];
    assert_eq!(read, expected.map(|(id, except)| (id.to_owned(), except)));
}

/// A file with the layout of before the log, and messages enough for several steps: rooms that were trimmed, a
/// forgotten one whose messages are still there, one that is empty.
fn of_before_the_log(path: &Path) {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch("PRAGMA journal_mode = WAL; BEGIN").unwrap();
    for migration in [
        include_str!("../migrations/1.sql"),
        include_str!("../migrations/2.sql"),
        include_str!("../migrations/3.sql"),
        include_str!("../migrations/4.sql"),
        include_str!("../migrations/5.sql"),
        include_str!("../migrations/6.sql"),
    ] {
        conn.execute_batch(migration).unwrap();
    }
    conn.execute_batch(
        "PRAGMA application_id = 0x726d6374; PRAGMA user_version = 6;
         INSERT INTO meta VALUES (1, 7, 8, 'one', 1);
         INSERT INTO rooms VALUES (1, '/', 'a', 21, 0, 0, NULL, 0), (2, '/chat', 'a', 22, 0, 0, 'user:eve', 0),
                                  (3, '/', 'emptied', 23, 9, 500, NULL, 0), (5, '/', 'last', 24, 0, 0, NULL, 0);
         INSERT INTO dropped VALUES (4), (6);
         INSERT INTO receipts VALUES (1, 2, 4500, 'ann', 999600), (2, 6, 1, 'ann', 999600);",
    )
    .unwrap();
    let mut insert =
        conn.prepare("INSERT INTO messages VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)").unwrap();
    for (room, offsets) in
        [(1, 1..=30), (2, 4_001..=9_000), (4, 1..=3_000), (5, 77..=80), (6, 1..=5)]
    {
        for offset in offsets {
            let (at, hash) = (990_000 + offset, 0_i64);
            let (id, json) = (format!("{room}-{offset}"), format!(r#"{{"n":{offset}}}"#));
            let attachments =
                (offset % 7 == 0).then(|| pack(&[bytes::Bytes::from_static(b"x")]).unwrap());
            let except = Except { users: vec![user("ann")], ..Except::nobody() };
            let left_out = (offset % 5 == 0).then(|| crate::store::codec::encode_except(&except));
            insert
                .execute(rusqlite::params![
                    room,
                    offset,
                    at,
                    hash,
                    id,
                    "e",
                    json,
                    attachments,
                    left_out
                ])
                .unwrap();
        }
    }
    drop(insert);
    conn.execute_batch("COMMIT").unwrap();
}

/// What the file of [`of_before_the_log`] must hold.
async fn check(path: &Path) {
    let mut world = World::at(Location::File(path.to_owned()));
    world.reopen(|settings, _| settings.history_size = 1_000_000);
    let Backend::Embedded(store) = &world.store.backend else { panic!("not an embedded store") };
    store.check_index();
    let chat = RoomKey { namespace: "/chat".into(), ..room("a") };
    for (key, offsets) in
        [(room("a"), 1..=30), (chat.clone(), 4_001..=9_000), (room("last"), 77..=80)]
    {
        let number = match (&*key.namespace, key.room.as_str()) {
            ("/", "a") => 1,
            ("/chat", "a") => 2,
            _ => 5,
        };
        let page = world.all(&key).await;
        assert_eq!(
            page.items.iter().map(|item| item.offset).collect::<Vec<_>>(),
            offsets.collect::<Vec<_>>()
        );
        for Stored { offset, entry, except, receipts } in page.items {
            assert_eq!(entry.id, format!("{number}-{offset}"));
            assert_eq!(&*entry.json, format!(r#"{{"n":{offset}}}"#));
            assert_eq!(entry.timestamp_ms, 990_000 + offset.cast_signed());
            assert_eq!(entry.attachments.len(), usize::from(offset % 7 == 0));
            assert_eq!(except.users.len(), usize::from(offset % 5 == 0));
            assert_eq!(receipts.len(), usize::from((number, offset) == (2, 4_500)));
        }
    }
    assert_eq!(world.store.extent(&room("emptied")).await.unwrap().head.offset, 9);
    assert_eq!(world.append(&room("emptied"), "m").await, 10);
    assert_eq!(world.append(&room("new"), "m").await, 1, "nothing of a forgotten room comes back");
    assert_eq!(world.offsets(&room("new")).await, [1]);
    world.store.sweep().await.unwrap();
    assert_eq!((world.rows("dropped"), world.rows("receipts")), (0, 1));
    let left = world.store.with_writer(|conn| {
        let sql =
            "SELECT count(*) FROM sqlite_schema WHERE name IN ('old_messages', 'messages_by_id')";
        conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    });
    assert_eq!(left, 0);
}

#[tokio::test]
async fn messages_are_moved_into_the_log_however_often_that_is_interrupted() {
    let dir = TempDir::new().unwrap();
    let old = dir.path().join("old.db");
    of_before_the_log(&old);
    let mut interrupted = 0;
    for steps in 0.. {
        let path = dir.path().join(format!("{steps}.db"));
        fs::copy(&old, &path).unwrap();
        let mut conn = Connection::open(&path).unwrap();
        conn.execute_batch(include_str!("../migrations/7.sql")).unwrap();
        conn.pragma_update(None, "user_version", 7).unwrap();
        let done = (0..steps).filter(|_| migrate::step(&mut conn).unwrap().is_some()).count();
        let is_over = !migrate::is_pending(&conn).unwrap();
        // What a killed process leaves is what lies on disk while it runs.
        let killed = dir.path().join(format!("{steps}-killed.db"));
        for suffix in ["", "-wal"] {
            let name = |path: &Path| format!("{}{suffix}", path.display());
            if Path::new(&name(&path)).exists() {
                fs::copy(name(&path), name(&killed)).unwrap();
            }
        }
        check(&killed).await;
        if is_over {
            break;
        }
        assert_eq!(done, steps);
        interrupted += 1;
    }
    assert!(interrupted > 6, "{interrupted}");
}

#[tokio::test]
async fn a_file_without_room_to_be_moved_is_refused_with_advice_and_goes_on_later() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("roomcast.db");
    of_before_the_log(&path);
    let mut conn = Connection::open(&path).unwrap();
    conn.query_row("PRAGMA max_page_count = 1", [], |_| Ok(())).unwrap();
    let refused =
        schema::migrate(&mut conn).map_err(|error| schema::refusal(&path, error)).unwrap_err();
    assert!(matches!(refused, OpenError::NoRoom { .. }), "{refused}");
    assert!(refused.to_string().contains("free some disk space"), "{refused}");
    drop(conn);
    check(&path).await;
}

#[tokio::test]
async fn a_file_that_is_half_moved_is_no_file_for_a_former_version() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("roomcast.db");
    of_before_the_log(&path);
    let mut conn = Connection::open(&path).unwrap();
    conn.execute_batch(include_str!("../migrations/7.sql")).unwrap();
    conn.pragma_update(None, "user_version", 7).unwrap();
    assert_eq!(migrate::step(&mut conn).unwrap(), Some(30));
    // A former version refuses what has a greater number than its own.
    conn.pragma_update(None, "user_version", 9).unwrap();
    drop(conn);
    let error = refused(&path);
    assert!(matches!(error, OpenError::Newer { found: 9, supported: 8, .. }), "{error}");
    assert!(error.to_string().contains("run the newer roomcast"), "{error}");
}

#[tokio::test]
async fn keys_of_before_their_index_was_held_in_memory_are_kept() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("roomcast.db");
    of_before_the_log(&path);
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch(include_str!("../migrations/7.sql")).unwrap();
    conn.execute_batch(
        "PRAGMA user_version = 7;
         INSERT INTO idempotency_keys VALUES
         (3, x'01010101010101010101010101010101', zeroblob(16), 77, 'first', 990000, NULL, NULL),
         (7, x'02020202020202020202020202020202', zeroblob(16), 90000, NULL, 990000, NULL, NULL),
         (9, x'03030303030303030303030303030303', zeroblob(16), 5, 'third', 995000, 'u:ann', 8);",
    )
    .unwrap();
    drop(conn);
    let mut world = World::at(Location::File(path));
    world.reopen(|settings, _| settings.max_keys_per_sender = 1);
    assert_eq!(world.rows("idempotency_keys"), 2, "a claim has ended with its process");
    let once = |number: u8, sender| crate::store::Once {
        key: [number; 16],
        content: [0; 16],
        sender,
        answer: "now".into(),
    };
    let before = |number, answer: &str| Ok(Done::Before(Before { number, answer: answer.into() }));
    assert_eq!(world.store.remember(once(1, None)).await, before(77, "first"));
    assert_eq!(world.store.remember(once(3, Some(sender("ann")))).await, before(5, "third"));
    assert_eq!(world.store.remember(once(2, None)).await, Ok(Done::Now(())));
    assert_eq!(world.store.remember(once(4, Some(sender("ann")))).await, Ok(Done::Now(())));
    assert_eq!(world.rows("idempotency_keys"), 3, "ann may have one");
    assert_eq!(world.store.remember(once(1, None)).await, before(77, "first"));
    let tables: i64 = world.store.with_writer(|conn| {
        let sql = "SELECT count(*) FROM sqlite_schema WHERE name LIKE '%old_keys%' OR name LIKE 'idempotency_keys_by%'";
        conn.query_row(sql, [], |row| row.get(0)).unwrap()
    });
    assert_eq!(tables, 0);
}
