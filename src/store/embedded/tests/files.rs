//! Files: restarts, crashes, and the files that are refused.

use std::{fs, path::PathBuf};

use super::*;

pub(super) fn refused(path: &Path) -> OpenError {
    let clock = Arc::new(AtomicI64::new(0));
    Store::open(settings(Location::File(path.to_owned()), &clock), |_| {}, |_| false).unwrap_err()
}

/// The files of a directory, except the lock and the reserve.
pub(super) fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension().is_none_or(|extension| extension != "lock" && extension != "reserve")
        })
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

async fn fill(world: &World) -> (Page, Vec<QueuedItem>) {
    for n in 1..=50 {
        world.append(&room("a"), &n.to_string()).await;
    }
    assert!(world.receipt(&room("a"), "7", "ann").await);
    world.store.enqueue(user("bob"), None, world.entry("q"), None).await.unwrap();
    seen(world).await
}

async fn seen(world: &World) -> (Page, Vec<QueuedItem>) {
    (world.all(&room("a")).await, world.store.queued(&user("bob"), 0, 10, 1_000).await.unwrap())
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let mut world = World::on_a_file();
    let unwritten = world.store.extent(&room("b")).await.unwrap();
    let before = fill(&world).await;
    // Without a close, …
    world.reopen(|_, _| {});
    assert_eq!(seen(&world).await, before);
    // … and with one.
    world.store.close().await;
    world.reopen(|_, _| {});
    assert_eq!(seen(&world).await, before);
    assert_eq!(
        world.store.extent(&room("b")).await.unwrap(),
        unwritten,
        "unwritten rooms keep their epochs too"
    );
    assert_eq!(world.append(&room("a"), "next").await, 51);
}

#[tokio::test]
async fn what_was_acknowledged_is_in_the_files_at_that_moment() {
    let world = World::on_a_file();
    let before = fill(&world).await;
    // What a killed process leaves is what lies on disk while it runs.
    let copy = TempDir::new().unwrap();
    for (path, bytes) in contents(world.file().parent().unwrap()) {
        fs::write(copy.path().join(path.file_name().unwrap()), bytes).unwrap();
    }
    assert!(copy.path().join("roomcast.db-wal").exists(), "there was no checkpoint yet");
    let killed = World::at(Location::File(copy.path().join("roomcast.db")));
    assert_eq!(seen(&killed).await, before);
}

#[tokio::test]
async fn a_power_failure_that_may_have_taken_commits_changes_the_epochs() {
    let world = World::on_a_file();
    let epoch = fill(&world).await.0.extent.head.epoch;
    let unwritten = world.store.extent(&room("b")).await.unwrap().head.epoch;
    let reopened = async |sync: Sync, boot: &str| {
        // A copy of the file as it lies there, not closed.
        let copy = TempDir::new().unwrap();
        for (path, bytes) in contents(world.file().parent().unwrap()) {
            fs::write(copy.path().join(path.file_name().unwrap()), bytes).unwrap();
        }
        let location = Location::File(copy.path().join("roomcast.db"));
        let settings = Settings { location, sync, ..world.settings.clone() };
        let tuning = Tuning { boot: Some(boot.into()), ..tuning() };
        let store = Store::open_tuned(settings, tuning, |_| {}).unwrap();
        let page = store.read(&room("a"), ALL).await.unwrap();
        assert_eq!(page.items.len(), 50);
        let epochs = (page.extent.head.epoch, store.extent(&room("b")).await.unwrap().head.epoch);
        (epochs, store, copy)
    };
    assert_eq!(reopened(Sync::Normal, "one").await.0, (epoch, unwritten), "the machine went on");
    let (after, store, copy) = reopened(Sync::Normal, "two").await;
    assert!(after.0 != epoch && after.1 != unwritten, "the machine was started anew");
    let appended = store.append(Append {
        room: room("b"),
        entry: world.entry("m"),
        except: Except::nobody(),
        sender: None,
        webhook: None,
    });
    assert_eq!(appended.await.unwrap().epoch, after.1);
    store.close().await;
    drop(store);
    let location = Location::File(copy.path().join("roomcast.db"));
    let tuning = Tuning { boot: Some("three".into()), ..tuning() };
    let store =
        Store::open_tuned(Settings { location, ..world.settings.clone() }, tuning, |_| {}).unwrap();
    let extent = store.extent(&room("a")).await.unwrap();
    assert_eq!(extent.head.epoch, after.0, "it was closed in order before the machine ended");
}

#[tokio::test]
async fn a_full_sync_outlives_the_machine_with_its_epochs() {
    let mut world = World::on_a_file();
    world.reopen(|settings, _| settings.sync = Sync::Full);
    let epoch = world.submit(&room("a"), "m").await.unwrap().epoch;
    let copy = TempDir::new().unwrap();
    for (path, bytes) in contents(world.file().parent().unwrap()) {
        fs::write(copy.path().join(path.file_name().unwrap()), bytes).unwrap();
    }
    let location = Location::File(copy.path().join("roomcast.db"));
    let tuning = Tuning { boot: Some("two".into()), ..tuning() };
    let store =
        Store::open_tuned(Settings { location, ..world.settings.clone() }, tuning, |_| {}).unwrap();
    assert_eq!(store.extent(&room("a")).await.unwrap().head.epoch, epoch);
}

#[tokio::test]
async fn closing_finishes_what_was_taken_in_and_refuses_the_rest() {
    let mut world = World::on_a_file();
    let pending: Vec<_> = (0..100).map(|n| world.submit(&room("a"), &n.to_string())).collect();
    world.store.close().await;
    for (n, pending) in (1..).zip(pending) {
        assert_eq!(pending.await.unwrap().offset, n);
    }
    let closed = StoreError::Unavailable("the store is closed".into());
    assert_eq!(world.submit(&room("a"), "late").await, Err(closed.clone()));
    assert_eq!(world.store.read(&room("a"), ALL).await, Err(closed));
    assert_eq!(world.store.health(), Health::Closed);
    let files = contents(world.file().parent().unwrap());
    assert_eq!(files.len(), 1, "the log was written back: {files:?}");
    world.reopen(|_, _| {});
    assert_eq!(world.offsets(&room("a")).await.len(), 100);
}

#[tokio::test]
async fn a_second_store_on_the_file_is_refused_until_the_first_ends() {
    let world = World::on_a_file();
    world.append(&room("a"), "m").await;
    let error = refused(world.file());
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    assert_eq!(world.append(&room("a"), "m").await, 2, "the first goes on");
    world.store.close().await;
    Store::open_tuned(world.settings.clone(), tuning(), |_| {}).unwrap();
}

#[test]
fn what_is_no_database_is_refused_and_left_untouched() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("roomcast.db");
    let pages = [b"SQLite format 3\0".to_vec(), vec![0xff; 8_000]].concat();
    for bytes in [b"short".to_vec(), vec![b'x'; 10_000], pages] {
        fs::write(&path, bytes).unwrap();
        let before = contents(dir.path());
        let error = refused(&path);
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("roomcast.db"), "{error}");
        assert_eq!(contents(dir.path()), before);
    }
}

#[tokio::test]
async fn a_damaged_page_is_found_before_anything_is_written() {
    let world = World::on_a_file();
    for n in 0..200 {
        world.append(&room("a"), &n.to_string()).await;
    }
    world.store.close().await;
    let mut bytes = fs::read(world.file()).unwrap();
    // Whatever the page holds, these bytes are no valid header.
    let middle = bytes.len() / 4_096 * 2_048 / 4_096 * 4_096;
    bytes[middle..middle + 64].fill(0xee);
    fs::write(world.file(), &bytes).unwrap();
    let error = refused(world.file());
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert_eq!(fs::read(world.file()).unwrap(), bytes);
}

#[tokio::test]
async fn a_newer_schema_is_refused_also_when_only_the_log_knows_of_it() {
    let world = World::on_a_file();
    world.append(&room("a"), "m").await;
    let file = world.file().to_owned();
    world.store.with_writer(|conn| conn.pragma_update(None, "user_version", 99).unwrap());
    let copy = TempDir::new().unwrap();
    for (path, bytes) in contents(file.parent().unwrap()) {
        fs::write(copy.path().join(path.file_name().unwrap()), bytes).unwrap();
    }
    world.store.close().await;
    for path in [copy.path().join("roomcast.db"), file] {
        let before = fs::read(&path).unwrap();
        let error = refused(&path);
        assert!(matches!(error, OpenError::Newer { found: 99, supported: 8, .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

#[test]
fn the_database_of_another_program_is_refused_and_left_untouched() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("other.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE accounts (id INTEGER)").unwrap();
    let before = contents(dir.path());
    let error = refused(&path);
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    for path in [dir.path().join("file/roomcast.db"), dir.path().join("file/deeper/roomcast.db")] {
        let error = refused(&path);
        assert!(matches!(error, OpenError::Io { .. }), "{error}");
        assert!(
            error.to_string().contains("must exist or be creatable, and be writable"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_empty_file_is_a_new_store() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("roomcast.db");
    fs::write(&path, "").unwrap();
    assert_eq!(World::at(Location::File(path)).append(&room("a"), "m").await, 1);
}

#[cfg(unix)]
#[test]
fn who_may_not_write_is_told_who_it_is() {
    let source = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let error = OpenError::Io { path: "/app/data/roomcast.db".into(), source }.to_string();
    let user = rustix::process::geteuid().to_string();
    assert!(error.contains(&format!("runs as user {user}")), "{error}");
    assert!(error.ends_with(&format!("chown -R {user} DIRECTORY")), "{error}");
}
