//! What the scenarios are made of.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    io,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::{task::spawn_local, time::sleep};

use crate::{
    client::Socket,
    process::Process,
    tally::{Member, Publisher, Span, Tally},
};

/// How many clients connect at the same time.
pub const CONNECTING: usize = 16;
/// How long deliveries may go on after the last message.
pub const DRAIN: Duration = Duration::from_secs(30);
/// How long a server may take until it listens.
const START: Duration = Duration::from_secs(15);
/// How long deliveries may pause until no more are expected.
const SILENCE: Duration = Duration::from_secs(2);

/// What a scenario found.
pub struct Found {
    /// Units, time and CPU time.
    pub span: Span,
    /// Bytes of memory per connection.
    pub per_connection: Option<f64>,
    /// The part of the messages that was lost.
    pub lost: Option<f64>,
}

impl From<Span> for Found {
    fn from(span: Span) -> Self {
        Self { span, per_connection: None, lost: None }
    }
}

/// Where and how long a scenario runs.
pub struct Bench {
    /// The server's port.
    pub port: u16,
    /// The server.
    pub process: Process,
    /// How long to measure.
    pub seconds: Duration,
    /// How long to run before that.
    pub warmup: Duration,
    /// What numbers are multiplied by.
    pub scale: f64,
    /// The counts.
    pub tally: Rc<Tally>,
}

impl Bench {
    /// Waits until the server answers.
    pub async fn ready(&self) -> io::Result<()> {
        let began = Instant::now();
        loop {
            match Socket::connect(self.port).await {
                Ok(_) => return Ok(()),
                Err(error) if began.elapsed() > START => return Err(error),
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Warms up, then measures.
    pub async fn measure(&self) -> io::Result<Found> {
        sleep(self.warmup).await;
        let start = self.tally.start(self.process)?;
        sleep(self.seconds).await;
        let span = self.tally.stop(self.process, &start)?;
        // Who waits for a message that was lost sends no more.
        if self.tally.last.get().is_none_or(|last| last.elapsed() > self.seconds / 2) {
            self.tally.fault("everything stood still");
        }
        Ok(span.into())
    }

    /// Publishers to `room-0` that are no members of it.
    pub async fn publishers(
        &self,
        count: usize,
        padding: usize,
    ) -> io::Result<Rc<[Rc<Publisher>]>> {
        let mut publishers = Vec::new();
        for id in 0..count {
            let socket = Socket::connect(self.port).await?;
            let publisher = Publisher::new(id, "room-0", Some(socket.sender())).padded(padding);
            publishers.push(Rc::new(publisher));
            self.listen(socket, Member::new(self.tally.clone(), Rc::new([])));
        }
        Ok(publishers.into())
    }

    /// Members of `room-0`, counting in `tally`.
    pub async fn members(
        &self,
        tally: &Rc<Tally>,
        count: usize,
        publishers: &Rc<[Rc<Publisher>]>,
    ) -> io::Result<()> {
        in_parallel(count, CONNECTING, |_| async {
            let mut socket = Socket::connect(self.port).await?;
            socket.join("room-0").await?;
            self.listen(socket, Member::new(tally.clone(), publishers.clone()));
            Ok(())
        })
        .await
    }

    /// Lets the member read from its socket for good.
    pub fn listen(&self, socket: Socket, mut member: Member) {
        let tally = self.tally.clone();
        spawn_local(async move {
            let error = socket.read(|now, packet| member.take(now, packet)).await;
            tally.fault(format!("a connection ended: {error}"));
        });
    }

    /// A number of clients, rooms or messages, scaled.
    pub fn scaled(&self, number: u32) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small and not negative"
        )]
        let scaled = (f64::from(number) * self.scale).ceil() as usize;
        scaled.max(2)
    }

    /// Waits until all deliveries that are expected came, or no more come.
    pub async fn drained(&self, expected: u64) {
        drained(&self.tally, expected).await;
    }

    /// Notes a fault unless all that was expected came.
    pub fn complete(&self, expected: u64) {
        let units = self.tally.units.get();
        if units != expected {
            self.tally.fault(format!("{units} of {expected} deliveries"));
        }
    }
}

/// Waits until all that is expected came, or nothing more comes.
pub async fn drained(tally: &Tally, expected: u64) {
    let began = Instant::now();
    let mut progress = (tally.units.get(), Instant::now());
    while progress.0 < expected && began.elapsed() < DRAIN && progress.1.elapsed() < SILENCE {
        sleep(Duration::from_millis(20)).await;
        if tally.units.get() != progress.0 {
            progress = (tally.units.get(), Instant::now());
        }
    }
}

/// Does something `count` times, at most `width` at the same time; stops at the first failure.
pub async fn in_parallel<F: Future<Output = io::Result<()>>>(
    count: usize,
    width: usize,
    work: impl Fn(usize) -> F,
) -> io::Result<()> {
    let next = Cell::new(0);
    let lane = || async {
        while next.get() < count {
            let mine = next.replace(next.get() + 1);
            work(mine).await?;
        }
        Ok::<_, io::Error>(())
    };
    let mut lanes: Vec<_> = (0..width).map(|_| Some(Box::pin(lane()))).collect();
    poll_fn(|cx| {
        let mut busy = false;
        for slot in &mut lanes {
            let Some(lane) = slot else { continue };
            match lane.as_mut().poll(cx) {
                Poll::Ready(Ok(())) => *slot = None,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => busy = true,
            }
        }
        if busy { Poll::Pending } else { Poll::Ready(Ok(())) }
    })
    .await
}
