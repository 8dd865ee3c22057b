//! A Sentinel that says what a test wants, for one that has been cut off from the others.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// What it says; ends with the test's runtime.
pub struct StandIn {
    pub port: u16,
    /// The configuration epoch and the port, as one number.
    answer: Arc<AtomicU64>,
}

impl StandIn {
    /// One that says that the server at this port takes writes, in this configuration epoch.
    pub async fn start(epoch: u64, primary: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = Arc::new(AtomicU64::new(0));
        let said = answer.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, said.clone()));
            }
        });
        let stand_in = Self { port, answer };
        stand_in.say(epoch, primary);
        stand_in
    }

    /// From now on says this.
    pub fn say(&self, epoch: u64, primary: u16) {
        self.answer.store(epoch << 16 | u64::from(primary), Relaxed);
    }
}

async fn serve(stream: TcpStream, answer: Arc<AtomicU64>) {
    let mut stream = BufReader::new(stream);
    // Its clients hang up as they like.
    while let Some(words) = command(&mut stream).await {
        let answer = answer.load(Relaxed);
        let (epoch, port) = (answer >> 16, answer & 0xffff);
        let said = match words.get(1).map(|word| word.to_ascii_uppercase()).as_deref() {
            Some("MASTER") => array(&["name", &words[2], "config-epoch", &epoch.to_string()]),
            Some("GET-MASTER-ADDR-BY-NAME") => array(&["127.0.0.1", &port.to_string()]),
            _ => "+OK\r\n".to_owned(),
        };
        if stream.write_all(said.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The words of the next command; `None` at the end.
async fn command(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let count = number(stream).await?;
    let mut words = Vec::new();
    for _ in 0..count {
        let mut word = vec![0; number(stream).await? + 2];
        stream.read_exact(&mut word).await.ok()?;
        word.truncate(word.len() - 2);
        words.push(String::from_utf8(word).unwrap());
    }
    Some(words)
}

/// The number behind a `*` or `$`.
async fn number(stream: &mut BufReader<TcpStream>) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    line.trim_end()[1..].parse().ok()
}

fn array(words: &[&str]) -> String {
    let words = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    format!("*{}\r\n{}", words.len(), words.collect::<String>())
}
