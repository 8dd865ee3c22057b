//! The network between a reader and the server.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, sink},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::timeout,
};

use super::random::Random;

/// How long a connection stays open that its client has given up.
const IDLE: Duration = Duration::from_secs(5);

/// What becomes of a connection.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// It is cut on both sides.
    Cut,
    /// Nothing passes any more, and the server is not told when the client gives up.
    Stall,
    /// The client is told that nothing more comes; the server is not.
    HalfClose,
}

/// A proxy for each node.
pub(super) struct Network {
    addresses: Vec<SocketAddr>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Told when a connection stalls: its client gives up then.
    stalled: Notify,
    /// Nothing happens any more to new connections.
    is_calm: AtomicBool,
}

impl Network {
    pub(super) async fn to(servers: Vec<SocketAddr>, seed: u64) -> Self {
        let state = Arc::<State>::default();
        let mut addresses = Vec::new();
        for (number, server) in (0..).zip(servers) {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            tokio::spawn(proxy(listener, server, Random::new(seed + 1000 * number), state.clone()));
        }
        Self { addresses, state }
    }

    /// The way to one of the nodes: a session of polling stays with one.
    pub(super) fn way(&self, random: &mut Random) -> SocketAddr {
        random.pick(&self.addresses)
    }

    /// Waits until a connection stalls.
    pub(super) async fn stalled(&self) {
        self.state.stalled.notified().await;
    }

    /// From now on, nothing happens to new connections.
    pub(super) fn calm(&self) {
        self.state.is_calm.store(true, Relaxed);
    }
}

async fn proxy(listener: TcpListener, server: SocketAddr, mut random: Random, state: Arc<State>) {
    while let Ok((client, _)) = listener.accept().await {
        let fate = random.pick(&[Fate::Cut, Fate::Cut, Fate::Stall, Fate::HalfClose]);
        // Often within the answer to the CONNECT packet.
        let most = if random.chance(30) { 700 } else { 20_000 };
        let bytes = if state.is_calm.load(Relaxed) { usize::MAX } else { random.index(most) };
        let upstream = TcpStream::connect(server).await.unwrap();
        tokio::spawn(pass(client, upstream, fate, bytes, state.clone()));
    }
}

/// Passes everything until so many bytes of the server's have passed, or one side closes its end.
async fn pass(
    mut client: TcpStream,
    mut upstream: TcpStream,
    fate: Fate,
    bytes: usize,
    state: Arc<State>,
) {
    client.set_nodelay(true).unwrap();
    upstream.set_nodelay(true).unwrap();
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.split(), upstream.split());
    let mut asks = Box::pin(copy(&mut from_client, &mut to_server));
    tokio::select! {
        is_spent = answer(&mut from_server, &mut to_client, bytes) => if !is_spent { return },
        _closed = &mut asks => return,
    }
    match fate {
        Fate::Cut => return,
        Fate::Stall => state.stalled.notify_one(),
        Fate::HalfClose => drop(to_client.shutdown().await),
    }
    // The client gives up, and the server is not told: it ends the connection by itself, or leaves it idle.
    let _ends = asks.await;
    let _open = timeout(IDLE, copy(&mut from_server, &mut sink())).await;
}

/// Passes so many bytes; false if one side has closed before.
async fn answer(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    bytes: usize,
) -> bool {
    let (mut left, mut buffer) = (bytes, vec![0; 4096]);
    while left > 0 {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return false };
        let passed = count.min(left);
        left -= passed;
        if to.write_all(&buffer[..passed]).await.is_err() {
            return false;
        }
    }
    true
}
