//! The scenarios.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    task::spawn_local,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    Scenario,
    client::{self, Http, Socket},
    setup::{Bench, CONNECTING, DRAIN, Found, drained, in_parallel},
    tally::{Member, Publisher, Tally},
};

/// What the stalled client's receive buffer is to be, in bytes.
const STALLED_BUFFER: u32 = 4096;
/// How much longer the messages of a flood are, in bytes.
const FLOOD_PADDING: usize = 256;
/// How many messages of one publisher of a flood may have reached nobody: far more than a server can
/// keep up with, and few enough that the slowest gets them out in some ten seconds, rather than the
/// megabytes that the kernel would take.
const FLOOD_AHEAD: usize = 300;

impl Bench {
    /// Runs one scenario.
    pub async fn run(&self, scenario: Scenario) -> io::Result<Found> {
        match scenario {
            Scenario::Fanout1 => self.fanout(1).await,
            Scenario::Fanout4 => self.fanout(4).await,
            Scenario::Rooms => self.rooms().await,
            Scenario::Echo => self.echo(16, 1).await,
            Scenario::Post => self.post().await,
            Scenario::Idle => self.idle().await,
            Scenario::Connect => self.connect().await,
            Scenario::Flood => self.flood().await,
            Scenario::Workers => self.echo(64, 16).await,
        }
    }

    async fn fanout(&self, publishers: usize) -> io::Result<Found> {
        let members = self.scaled(1000);
        let publishers = self.publishers(publishers, 0).await?;
        self.members(&self.tally, members, &publishers).await?;
        for publisher in publishers.iter() {
            let publisher = publisher.clone();
            let tally = self.tally.clone();
            spawn_local(async move {
                let error = publisher.publish_in_turn(members, 1).await;
                tally.fault(format!("publishing: {error}"));
            });
        }
        self.measure().await
    }

    async fn rooms(&self) -> io::Result<Found> {
        let rooms = self.scaled(400);
        let publishers: Rc<RefCell<Vec<Rc<Publisher>>>> = Rc::default();
        in_parallel(rooms, CONNECTING, |room| {
            let publishers = publishers.clone();
            async move {
                let name = format!("room-{room}");
                let mut first = Socket::connect(self.port).await?;
                first.join(&name).await?;
                let publisher = Rc::new(Publisher::new(room, &name, Some(first.sender())));
                // The sender gets no copy: for this member there is no publisher.
                self.listen(first, Member::new(self.tally.clone(), Rc::new([])));
                for _ in 1..5 {
                    let mut socket = Socket::connect(self.port).await?;
                    socket.join(&name).await?;
                    let only = Rc::new([publisher.clone()]);
                    self.listen(socket, Member::new(self.tally.clone(), only));
                }
                publishers.borrow_mut().push(publisher);
                Ok(())
            }
        })
        .await?;
        let publishers = publishers.take();
        let a_tick = self.scaled(4);
        let stop = Rc::new(Cell::new(false));
        let publishing = spawn_local({
            let (stop, tally) = (stop.clone(), self.tally.clone());
            let publishers: Vec<_> = publishers.clone();
            async move {
                let mut ticks = interval(Duration::from_millis(1));
                ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
                let mut turn = publishers.iter().cycle();
                while !stop.get() {
                    ticks.tick().await;
                    for publisher in turn.by_ref().take(a_tick) {
                        if let Err(error) = publisher.publish().await {
                            tally.fault(format!("publishing: {error}"));
                            return;
                        }
                    }
                }
            }
        });
        let found = self.measure().await?;
        stop.set(true);
        if timeout(DRAIN, publishing).await.is_err() {
            self.tally.fault("a publisher is still blocked");
        }
        let sent: usize = publishers.iter().map(|publisher| publisher.sent()).sum();
        self.drained(4 * sent as u64).await;
        self.complete(4 * sent as u64);
        Ok(found)
    }

    async fn echo(&self, clients: usize, together: usize) -> io::Result<Found> {
        in_parallel(clients, CONNECTING, |client| async move {
            let name = format!("alone-{client}");
            let mut socket = Socket::connect(self.port).await?;
            socket.join(&name).await?;
            let publisher = Rc::new(Publisher::new(client, &name, Some(socket.sender())).replied());
            self.listen(socket, Member::new(self.tally.clone(), Rc::new([publisher.clone()])));
            let tally = self.tally.clone();
            spawn_local(async move {
                let error = publisher.publish_in_turn(1, together).await;
                tally.fault(format!("publishing: {error}"));
            });
            Ok(())
        })
        .await?;
        self.measure().await
    }

    async fn post(&self) -> io::Result<Found> {
        const CONNECTIONS: usize = 32;
        const MEMBERS: usize = 10;
        let publishers: Rc<[_]> =
            (0..CONNECTIONS).map(|id| Rc::new(Publisher::new(id, "room-0", None))).collect();
        // What the members of this room got, apart from the requests.
        let deliveries = Rc::new(Tally::default());
        self.members(&deliveries, MEMBERS, &publishers).await?;
        let stop = Rc::new(Cell::new(false));
        let mut posting = Vec::new();
        for publisher in publishers.iter() {
            let publisher = publisher.clone();
            let mut http = Http::connect(self.port).await?;
            let (stop, tally) = (stop.clone(), self.tally.clone());
            posting.push(spawn_local(async move {
                while !stop.get() {
                    let body = publisher.next();
                    let began = Instant::now();
                    if let Err(error) = http.broadcast(&body).await {
                        tally.fault(format!("posting: {error}"));
                        return;
                    }
                    let now = Instant::now();
                    tally.unit(now, now - began);
                }
            }));
        }
        let found = self.measure().await?;
        stop.set(true);
        for task in posting {
            if timeout(DRAIN, task).await.is_err() {
                self.tally.fault("a request without an answer");
            }
        }
        let expected = MEMBERS as u64 * self.tally.units.get();
        drained(&deliveries, expected).await;
        for fault in deliveries.faults() {
            self.tally.fault(fault);
        }
        if deliveries.units.get() != expected {
            let got = deliveries.units.get();
            self.tally.fault(format!("{got} of {expected} deliveries"));
        }
        Ok(found)
    }

    async fn idle(&self) -> io::Result<Found> {
        // Long enough that what was allocated for connecting has been given back.
        const SETTLE: Duration = Duration::from_secs(1);
        let kept = RefCell::new(Vec::new());
        let open = |_| async {
            let began = Instant::now();
            let socket = Socket::connect(self.port).await?;
            let now = Instant::now();
            self.tally.unit(now, now - began);
            kept.borrow_mut().push(socket);
            Ok(())
        };
        // So that what the server allocates once is not divided among the connections.
        in_parallel(self.scaled(200), CONNECTING, open).await?;
        sleep(SETTLE).await;
        let before = self.process.memory()?;
        let start = self.tally.start(self.process)?;
        in_parallel(self.scaled(5000), CONNECTING, open).await?;
        let span = self.tally.stop(self.process, &start)?;
        sleep(SETTLE).await;
        let grown = self.process.memory()?.saturating_sub(before);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let each = grown as f64 / span.units.max(1) as f64;
        Ok(Found { per_connection: Some(each), ..span.into() })
    }

    async fn connect(&self) -> io::Result<Found> {
        let kept = RefCell::new(Vec::new());
        let deadline = Cell::new(None::<Instant>);
        let join = |client: usize| {
            let (kept, deadline) = (&kept, &deadline);
            async move {
                if deadline.get().is_some_and(|deadline| Instant::now() > deadline) {
                    return Ok(());
                }
                let began = Instant::now();
                let mut socket = Socket::connect(self.port).await?;
                socket.join(&format!("room-{client}")).await?;
                let now = Instant::now();
                self.tally.unit(now, now - began);
                // Disconnecting is not part of it.
                kept.borrow_mut().push(socket);
                Ok(())
            }
        };
        let warmup = self.scaled(500);
        in_parallel(warmup, CONNECTING, join).await?;
        let start = self.tally.start(self.process)?;
        deadline.set(Some(start.at + self.seconds));
        in_parallel(self.scaled(8000), CONNECTING, |client| join(warmup + client)).await?;
        Ok(self.tally.stop(self.process, &start)?.into())
    }

    async fn flood(&self) -> io::Result<Found> {
        let readers = self.scaled(1000) - 1;
        let publishers = self.publishers(4, FLOOD_PADDING).await?;
        let mut stalled =
            Socket::over(client::open(self.port, Some(STALLED_BUFFER)).await?).await?;
        self.members(&self.tally, readers, &publishers).await?;
        // The last to join, as from here on nothing is read from it.
        stalled.join("room-0").await?;
        let start = self.tally.start(self.process)?;
        let stop = Rc::new(Cell::new(false));
        let mut publishing = Vec::new();
        for publisher in publishers.iter() {
            let publisher = publisher.clone();
            let (stop, tally) = (stop.clone(), self.tally.clone());
            publishing.push(spawn_local(async move {
                while !stop.get() {
                    if publisher.ahead() >= FLOOD_AHEAD {
                        // In vain where all of them were lost.
                        let _ = timeout(Duration::from_millis(10), publisher.arrived()).await;
                        continue;
                    }
                    if let Err(error) = publisher.publish().await {
                        tally.fault(format!("publishing: {error}"));
                        return;
                    }
                    // A buffer that takes everything must not keep the readers from reading.
                    tokio::task::yield_now().await;
                }
            }));
        }
        sleep(self.seconds).await;
        stop.set(true);
        for task in publishing {
            if timeout(DRAIN, task).await.is_err() {
                self.tally.fault("a publisher is still blocked");
            }
        }
        let sent: usize = publishers.iter().map(|publisher| publisher.sent()).sum();
        let expected = (sent * readers) as u64;
        self.drained(expected).await;
        let mut span = self.tally.stop(self.process, &start)?;
        if let Some(last) = self.tally.last.get() {
            span.time = last - start.at;
        }
        drop(stalled);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let lost = 1.0 - span.units as f64 / expected.max(1) as f64;
        Ok(Found { lost: Some(lost), ..span.into() })
    }
}
