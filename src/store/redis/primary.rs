//! The Redis that takes writes: at one address, or at the one that Sentinels name at the moment, or the nodes of a Redis
//! Cluster.
//!
//! All Sentinels are asked at once, before each connection and every second. The answer of the highest
//! configuration epoch counts, so that a Sentinel that was cut off misleads nobody who has known better.

use std::{
    collections::HashMap,
    fmt, future,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::future::join_all;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, RedisResult, pipe};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use url::Url;

use super::cluster::{Nodes, Slot};
use crate::config::{ClusterUrl, SentinelUrl};

/// How long a Sentinel, or a node of a Redis Cluster, may take for its answer.
pub(super) const ANSWER: Duration = Duration::from_millis(700);

/// How often the Sentinels are asked whether the server is still the one.
const WATCH: Duration = Duration::from_secs(1);

/// Finds the Redis that takes writes. Cheap to clone.
#[derive(Clone)]
pub struct Primary(Place);

#[derive(Clone)]
enum Place {
    At(Box<Client>),
    Watched(Arc<Watched>),
}

/// A server that others name.
struct Watched {
    by: Watchers,
    /// The server's URL, but for its host and port.
    url: Url,
    /// The newest answer that counted.
    newest: watch::Sender<Option<Answer>>,
}

/// Who names it.
enum Watchers {
    Sentinels { all: Vec<Client>, service: String },
    Nodes { all: Arc<Nodes>, slot: Slot },
}

/// What they say: an address, and how new that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// The configuration epoch: every failover has a higher one.
    pub epoch: u64,
    pub host: String,
    pub port: u16,
}

/// The server that takes writes, and news of its replacement.
pub struct Found {
    /// The server.
    pub client: Client,
    /// Tells when another one has taken its place.
    pub replaced: Replaced,
}

/// Tells when another server is named than the one that was found.
#[derive(Clone)]
pub struct Replaced(Option<(Answer, watch::Receiver<Option<Answer>>)>);

impl Primary {
    /// The server of this URL; of a Redis Cluster, that of each place.
    ///
    /// Must be called inside the runtime.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn open(url: &str) -> RedisResult<Vec<Self>> {
        let unfit = |why| RedisError::from((ErrorKind::InvalidClientConfig, why));
        if let Some(url) = ClusterUrl::parse(url) {
            let all = Arc::new(Nodes::new(url.map_err(unfit)?)?);
            let place = |slot| {
                let by = Watchers::Nodes { all: all.clone(), slot };
                Self::watched(by, all.url().clone())
            };
            return Ok(Slot::all().map(place).collect());
        }
        let Some(url) = SentinelUrl::parse(url) else { return Ok(vec![Client::open(url)?.into()]) };
        let SentinelUrl { sentinels, service, redis } = url.map_err(unfit)?;
        // What is wrong with it shows at once.
        Client::open(redis.as_str())?;
        let open = |url: &Url| Client::open(url.as_str());
        let all = sentinels.iter().map(open).collect::<RedisResult<_>>()?;
        Ok(vec![Self::watched(Watchers::Sentinels { all, service }, redis)])
    }

    fn watched(by: Watchers, url: Url) -> Self {
        let watched = Arc::new(Watched { by, url, newest: watch::Sender::new(None) });
        tokio::spawn(watch(Arc::downgrade(&watched)));
        Self(Place::Watched(watched))
    }

    /// What the keys and channels there begin with.
    pub fn prefix(&self, prefix: &str) -> String {
        match self.slot() {
            Some(Slot { tag, .. }) => format!("{prefix}:{{{tag}}}"),
            None => prefix.to_owned(),
        }
    }

    /// The slot of a Redis Cluster, if it serves one.
    fn slot(&self) -> Option<Slot> {
        match &self.0 {
            Place::Watched(watched) => match watched.by {
                Watchers::Nodes { slot, .. } => Some(slot),
                Watchers::Sentinels { .. } => None,
            },
            Place::At(_) => None,
        }
    }

    /// Whether it is a place in a Redis Cluster.
    pub fn is_in_cluster(&self) -> bool {
        self.slot().is_some()
    }

    /// Whether some Sentinel, or node of a Redis Cluster, names the server.
    ///
    /// # Errors
    /// What has to be changed, if those that answer do not know the server or refuse the credentials. Those that are
    /// away may come back, which is no error.
    pub async fn check(&self) -> Result<(), String> {
        let Place::Watched(watched) = &self.0 else { return Ok(()) };
        let answers = watched.ask_all().await;
        if answers.iter().any(Result::is_ok) {
            return Ok(());
        }
        match answers.iter().find_map(|answer| watched.by.unfit(answer.as_ref().err()?)) {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }

    /// What tells it from other servers: its address and its database, without credentials.
    pub(super) fn name(&self) -> String {
        let address = |client: &Client| {
            let address = client.get_connection_info().addr().to_string();
            address.to_ascii_lowercase()
        };
        match &self.0 {
            Place::At(client) => {
                let database = client.get_connection_info().redis_settings().db();
                format!("{}/{database}", address(client))
            }
            Place::Watched(watched) => match &watched.by {
                Watchers::Sentinels { all, service } => {
                    let mut all = all.iter().map(address).collect::<Vec<_>>();
                    all.sort_unstable();
                    format!("{} {service}{}", all.join(","), watched.url.path())
                }
                // Any nodes of the cluster lead there.
                Watchers::Nodes { slot, .. } => slot.tag.to_owned(),
            },
        }
    }

    /// Whether another server may be named later.
    pub(super) fn is_watched(&self) -> bool {
        matches!(self.0, Place::Watched(_))
    }

    /// The server that takes writes at this moment. It may have just ceased to: then it says so itself when it is
    /// written to.
    ///
    /// # Errors
    /// When none is named.
    pub async fn find(&self) -> RedisResult<Found> {
        match &self.0 {
            Place::At(client) => Ok(Found { client: (**client).clone(), replaced: Replaced(None) }),
            Place::Watched(watched) => watched.find().await,
        }
    }
}

impl fmt::Debug for Primary {
    /// Leaves out the addresses, which have passwords in them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Primary").finish_non_exhaustive()
    }
}

impl From<Client> for Primary {
    fn from(client: Client) -> Self {
        Self(Place::At(client.into()))
    }
}

impl Replaced {
    /// Why connections to the server that was found end.
    pub const REASON: &str = "another Redis has taken its place";

    /// Returns once another server has taken the place of the one that was found.
    pub async fn wait(&self) {
        let Some((found, newest)) = &self.0 else { return future::pending().await };
        let mut newest = newest.clone();
        let is_other =
            |newest: &Option<Answer>| newest.as_ref().is_some_and(|newest| newest.replaces(found));
        if newest.wait_for(is_other).await.is_err() {
            // Nobody asks the Sentinels any more.
            future::pending::<()>().await;
        }
    }
}

impl Answer {
    fn replaces(&self, found: &Self) -> bool {
        self.epoch > found.epoch && (self.port != found.port || self.host != found.host)
    }
}

impl Watched {
    async fn find(&self) -> RedisResult<Found> {
        let found = self.newest().await?;
        let url = with_host(&self.url, &found.host, found.port)?;
        let client = Client::open(url.as_str())?;
        Ok(Found { client, replaced: Replaced(Some((found, self.newest.subscribe()))) })
    }

    /// Asks all Sentinels, and keeps the answer that counts.
    async fn newest(&self) -> RedisResult<Answer> {
        let answers = self.ask_all().await;
        let mut chosen =
            Err((ErrorKind::InvalidClientConfig, "nobody is named who knows the server").into());
        self.newest.send_if_modified(|newest| {
            chosen = choose(answers, newest.as_ref());
            let is_news = chosen.as_ref().is_ok_and(|chosen| newest.as_ref() != Some(chosen));
            if is_news {
                *newest = chosen.as_ref().ok().cloned();
            }
            is_news
        });
        chosen
    }

    async fn ask_all(&self) -> Vec<RedisResult<Answer>> {
        match &self.by {
            Watchers::Nodes { all, slot } => all.owner(*slot).await,
            Watchers::Sentinels { all, service } => {
                let asked = all.iter().map(async |sentinel| {
                    let late =
                        || RedisError::from((ErrorKind::Io, "a Sentinel did not answer in time"));
                    timeout(ANSWER, ask(sentinel, service)).await.map_err(|_| late())?
                });
                join_all(asked).await
            }
        }
    }
}

/// Asks a Sentinel.
async fn ask(sentinel: &Client, service: &str) -> RedisResult<Answer> {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER));
    let mut connection = sentinel.get_multiplexed_async_connection_with_config(&config).await?;
    let mut ask = pipe();
    // The epoch first: were there a failover in between, the address would be newer than it seems. The fields
    // have an address, too, but the old one for as long as the failover is not over.
    ask.cmd("SENTINEL").arg("MASTER").arg(service);
    ask.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(service);
    let (fields, (host, port)): (HashMap<String, String>, (String, u16)) =
        ask.query_async(&mut connection).await?;
    let epoch = fields.get("config-epoch").and_then(|epoch| epoch.parse().ok());
    Ok(Answer { epoch: epoch.unwrap_or(0), host, port })
}

/// The URL with this host and port.
pub(super) fn with_host(url: &Url, host: &str, port: u16) -> RedisResult<Url> {
    let unfit = || RedisError::from((ErrorKind::Io, "the host that was named is none"));
    let mut url = url.clone();
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    url.set_host(Some(&host)).map_err(|_| unfit())?;
    url.set_port(Some(port)).map_err(|()| unfit())?;
    Ok(url)
}

impl Watchers {
    /// What has to be changed, if an error does not go away by itself.
    fn unfit(&self, error: &RedisError) -> Option<String> {
        let text = error.to_string();
        let is_refused = error.kind() == ErrorKind::AuthenticationFailed
            || ["NOAUTH", "WRONGPASS", "NOPERM"].iter().any(|code| text.contains(code));
        let service = match self {
            Self::Sentinels { service, .. } => service,
            Self::Nodes { .. } if is_refused => {
                return Some("the nodes of the Redis Cluster refuse the credentials".to_owned());
            }
            Self::Nodes { .. } => {
                let is_alone = text.contains("cluster support disabled");
                return is_alone.then(|| "this is no Redis Cluster: name it redis://…".to_owned());
            }
        };
        if is_refused {
            return Some(
                "the Sentinels refuse the credentials: give theirs as \
                 ?sentinel_username=…&sentinel_password=… at the end (before the @ stand those of Redis)"
                    .to_owned(),
            );
        }
        let unknown = "no Sentinel watches a primary named";
        text.contains("No such master")
            .then(|| format!("{unknown} {service:?}: name it as their `sentinel monitor` does"))
    }
}

/// The answer that counts. One that is older than what was known counts only if most of the Sentinels say so: they
/// may have been set up anew, and a single one may have been cut off.
fn choose(answers: Vec<RedisResult<Answer>>, known: Option<&Answer>) -> RedisResult<Answer> {
    let count = answers.len();
    let (mut given, mut error) = (Vec::new(), None);
    for answer in answers {
        match answer {
            Ok(answer) => given.push(answer),
            Err(why) => error = Some(why),
        }
    }
    let is_most = given.len() * 2 > count;
    let newest = given.into_iter().reduce(|a, b| if a.epoch < b.epoch { b } else { a });
    match (newest, known) {
        (Some(newest), Some(known)) if newest.epoch < known.epoch && !is_most => Ok(known.clone()),
        (Some(newest), _) => Ok(newest),
        // While none answers, the server may still be there.
        (None, Some(known)) => Ok(known.clone()),
        (None, None) => Err(error.unwrap_or_else(|| {
            (ErrorKind::InvalidClientConfig, "nobody is named who knows the server").into()
        })),
    }
}

/// Asks every second, as long as somebody wants to know.
async fn watch(watched: Weak<Watched>) {
    loop {
        sleep(WATCH).await;
        let Some(watched) = watched.upgrade() else { return };
        // Those who look for the server report that nobody answers.
        let _unanswered = watched.newest().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(epoch: u64, port: u16) -> Answer {
        Answer { epoch, host: "a".into(), port }
    }

    fn away() -> RedisResult<Answer> {
        Err((ErrorKind::Io, "away").into())
    }

    #[test]
    fn the_newest_answer_counts() {
        let chosen = choose(vec![Ok(answer(3, 1)), away(), Ok(answer(4, 2))], None).unwrap();
        assert_eq!(chosen, answer(4, 2));
        assert!(choose(vec![away(), away()], None).is_err());
    }

    #[test]
    fn a_sentinel_that_was_cut_off_does_not_lead_back() {
        let known = answer(4, 2);
        let alone = vec![Ok(answer(3, 1)), away(), away()];
        assert_eq!(choose(alone, Some(&known)).unwrap(), known);
        assert_eq!(choose(vec![away(), away(), away()], Some(&known)).unwrap(), known);
        // Sentinels that were set up anew count from the beginning.
        let anew = vec![Ok(answer(0, 7)), away(), Ok(answer(0, 7))];
        assert_eq!(choose(anew, Some(&known)).unwrap(), answer(0, 7));
    }

    #[tokio::test]
    async fn only_a_newer_answer_replaces_a_server() {
        let (newest, told) = watch::channel(Some(answer(3, 1)));
        let replaced = Replaced(Some((answer(3, 1), told)));
        for same in [answer(4, 1), answer(2, 2), answer(3, 2)] {
            newest.send_replace(Some(same));
            tokio::select! {
                biased;
                () = replaced.wait() => panic!("it is the same server, or an older one"),
                () = future::ready(()) => {}
            }
        }
        newest.send_replace(Some(answer(4, 2)));
        replaced.wait().await;
    }
}
