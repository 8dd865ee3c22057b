//! The event log against a disk that is slow, full, and back again.

use std::sync::mpsc;

use parking_lot::Mutex;
use serde_json::Value;

use super::*;

/// A disk that can be full, and that can keep the writer waiting.
#[derive(Clone, Default)]
struct Disk {
    text: Arc<Mutex<Vec<u8>>>,
    full: Arc<Mutex<bool>>,
    gate: Option<Arc<Mutex<mpsc::Receiver<()>>>>,
    begun: Option<mpsc::Sender<()>>,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(begun) = &self.begun {
            let _ = begun.send(());
        }
        if let Some(gate) = &self.gate {
            // Without a keeper the gate is open.
            let _ = gate.lock().recv();
        }
        if *self.full.lock() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.text.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk {
    fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8(self.text.lock().clone()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn refusal(event: &str) -> Entry<'_> {
    Entry { code: Some(Code::Forbidden), ..Entry::new(Kind::Refusal).event(event) }
}

async fn close(log: &EventLog) {
    log.close([]).await;
}

#[tokio::test]
async fn a_line_is_an_object_without_what_is_not_known() {
    let disk = Disk::default();
    let log = EventLog::to(disk.clone()).unwrap();
    log.write(|| refusal("message"));
    close(&log).await;
    let [line] = &disk.lines()[..] else { panic!("{:?}", disk.lines()) };
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
    let fields = line.as_object().unwrap();
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["time", "type", "event", "code"]);
    assert_eq!((&line["type"], &line["code"]), (&"refusal".into(), &"forbidden".into()));
    assert_eq!(log.counts(), Some((1, 0)));
}

#[tokio::test]
async fn a_long_name_is_cut_off() {
    let disk = Disk::default();
    let log = EventLog::to(disk.clone()).unwrap();
    let name = "ö".repeat(1000);
    log.write(|| refusal(&name));
    close(&log).await;
    assert_eq!(disk.lines()[0]["event"], format!("{}…", "ö".repeat(MAX_EVENT)));
}

#[tokio::test]
async fn what_does_not_fit_is_dropped_and_owned_up_to() {
    let (keeper, gate) = mpsc::channel();
    let (begun, begins) = mpsc::channel();
    let gate = Some(Arc::new(Mutex::new(gate)));
    let disk = Disk { gate, begun: Some(begun), ..Disk::default() };
    let log = EventLog::to(disk.clone()).unwrap();
    log.write(|| refusal("first"));
    begins.recv().unwrap();
    for _ in 0..CAPACITY + 5 {
        log.write(|| Entry::new(Kind::Connect));
    }
    assert_eq!(log.counts(), Some((0, 5)));
    drop(keeper);
    close(&log).await;
    let lines = disk.lines();
    let (dropped, written): (Vec<_>, Vec<_>) =
        lines.iter().partition(|line| line["type"] == "dropped");
    assert_eq!(dropped.iter().map(|line| line["count"].as_u64().unwrap()).sum::<u64>(), 5);
    assert_eq!(written.len(), CAPACITY + 1);
}

#[tokio::test]
async fn a_full_disk_loses_lines_but_not_the_log() {
    let (begun, begins) = mpsc::channel();
    let disk = Disk { begun: Some(begun), ..Disk::default() };
    *disk.full.lock() = true;
    let log = EventLog::to(disk.clone()).unwrap();
    log.write(|| refusal("lost"));
    begins.recv().unwrap();
    while log.counts() != Some((0, 1)) {
        tokio::task::yield_now().await;
    }
    *disk.full.lock() = false;
    log.write(|| refusal("kept"));
    close(&log).await;
    let text = String::from_utf8(disk.text.lock().clone()).unwrap();
    // The rest of a torn line is ended first.
    let lines = text.lines().filter(|line| !line.is_empty());
    let lines = lines.map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
    assert_eq!((&lines[0]["type"], &lines[0]["count"]), (&"dropped".into(), &1.into()));
    assert_eq!(lines[1]["event"], "kept");
}

#[tokio::test]
async fn after_the_end_lines_are_dropped() {
    let log = EventLog::to(Disk::default()).unwrap();
    close(&log).await;
    log.write(|| refusal("late"));
    close(&log).await;
    assert_eq!(log.counts(), Some((0, 1)));
}

#[tokio::test]
async fn of_many_refusals_few_are_written_and_all_are_counted() {
    let disk = Disk::default();
    let log = EventLog::to(disk.clone()).unwrap();
    let address = |last: u8| Some([192, 0, 2, last].into());
    for last in 0..200 {
        for _ in 0..10 {
            log.write(|| Entry { address: address(last), ..refusal("e") });
        }
    }
    let rare = || Entry { code: Some(Code::TooLarge), address: address(1), ..refusal("e") };
    log.write(rare);
    log.write(|| Entry::new(Kind::Connect));
    close(&log).await;
    let lines = disk.lines();
    let of = |code: &str| lines.iter().filter(|line| line["code"] == code).collect::<Vec<_>>();
    let count = |line: &&Value| line.get("count").map_or(1, |count| count.as_u64().unwrap());
    assert_eq!(of("forbidden").iter().map(count).sum::<u64>(), 2000);
    // More seconds than one may pass on a busy machine.
    assert!(of("forbidden").len() <= 1000, "{}", of("forbidden").len());
    assert_eq!(of("too_large").len(), 1);
    assert_eq!(lines.iter().filter(|line| line["type"] == "connect").count(), 1);
}
