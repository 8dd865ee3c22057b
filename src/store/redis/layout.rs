//! Where each instance stands in the list of `REDIS_URL`. Which rooms are whose follows from that alone, so
//! all nodes must have the same list.
//!
//! Every list has a *generation*, which the first instance keeps; the others are told it when a node connects. A list
//! follows another one only while no node runs with the old one. Then
//!
//! - rooms that stay where they are keep their epochs;
//! - rooms that moved begin anew on their new instance, and are forgotten on the old one. If they come back, they have
//!   another epoch: what is stored for them elsewhere meanwhile is never taken for known;
//! - an instance that missed a list, or did not forget all that it should have, gives all its rooms new epochs.
//!
//! A node that stood still while the list changed is refused by every instance that has been told the new generation.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::Mutex;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, aio::MultiplexedConnection, cmd};
use tokio::{sync::watch, time::timeout};

use super::{primary::Primary, scripts};

/// How long an instance may wait for the first one to tell the generation.
const FIRST: Duration = Duration::from_secs(3);

/// The list of instances, as this node has it.
pub(super) struct Layout {
    count: usize,
    /// Which servers they are, as a hash of their addresses; empty for one instance.
    list: String,
    /// This node's name.
    node: String,
    /// `None` until the first instance has told it, and after it has told that the list is another one.
    generation: watch::Sender<Option<Generation>>,
    /// The newest generation that another instance was told: the first one may have lost it.
    newest: AtomicU64,
    /// Why instances do not fit this list, by their places.
    refused: Mutex<BTreeMap<usize, String>>,
}

/// The generation of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Generation {
    /// Its name; empty for one instance that has always been alone.
    name: String,
    /// The one before.
    before: String,
}

/// What a connection to an instance began with.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    /// The name of the list's generation.
    pub generation: String,
    /// Whether rooms may lie there that are another instance's.
    pub is_untidy: bool,
}

impl Layout {
    pub(super) fn new(instances: &[Primary], node: String) -> Self {
        Self {
            count: instances.len(),
            list: list_of(instances),
            node,
            generation: watch::Sender::new(None),
            newest: AtomicU64::new(0),
            refused: Mutex::default(),
        }
    }

    /// How many instances there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Why an instance does not fit this list, if one has said so.
    pub(super) fn refused(&self) -> Option<String> {
        self.refused.lock().values().next().cloned()
    }

    /// Waits until the first instance knows this node's list (`true`), or another one (`false`).
    pub(super) async fn is_known(&self, known: bool) {
        // Cannot fail: the sender is in `self`.
        let _ = self.generation.subscribe().wait_for(|known_as| known_as.is_some() == known).await;
    }

    /// Tells an instance its place, and learns the generation from the first one.
    pub(super) async fn admit(
        &self,
        connection: &mut MultiplexedConnection,
        prefix: &str,
        place: usize,
    ) -> RedisResult<Admitted> {
        let known = self.known(place).await?;
        let mut call = scripts::LAYOUT.call(prefix);
        call.arg(place + 1)
            .arg(self.count)
            .arg(&self.list)
            .arg(&known.name)
            .arg(&known.before)
            .arg(self.newest.load(Relaxed))
            .arg(&self.node);
        let answer: Vec<String> = call.query_async(connection).await?;
        let (name, before, is_untidy) = match &answer[..] {
            [name, before, untidy] => (name.clone(), before.clone(), untidy == "1"),
            [_, _, why, detail, nodes] => {
                if place == 0 {
                    self.generation.send_replace(None);
                }
                return Err(self.refuse(why, place, detail, nodes, prefix));
            }
            _ => return Err((ErrorKind::UnexpectedReturnType, "an answer of another form").into()),
        };
        self.refused.lock().remove(&place);
        if place == 0 {
            let told = Some(Generation { name: name.clone(), before });
            self.generation.send_if_modified(|generation| {
                let is_new = *generation != told;
                *generation = told;
                is_new
            });
        }
        Ok(Admitted { generation: name, is_untidy })
    }

    /// The generation as an instance is told it: none is known before the first instance has told it.
    async fn known(&self, place: usize) -> RedisResult<Generation> {
        if place > 0 && timeout(FIRST, self.is_known(true)).await.is_err() {
            let why = "the first instance of REDIS_URL has not been reached yet";
            return Err((ErrorKind::Io, why).into());
        }
        Ok(self.generation.borrow().clone().unwrap_or_default())
    }

    fn refuse(
        &self,
        why: &str,
        place: usize,
        detail: &str,
        nodes: &str,
        prefix: &str,
    ) -> RedisError {
        let (this, count) = (place + 1, self.count);
        let is_as_long = detail == count.to_string();
        let why = match why {
            "others" if is_as_long => format!(
                "the list has other addresses than that of the running nodes ({nodes}): start all nodes with the same \
                 list, or stop them all to change it (a node that was killed counts for up to 12 seconds)"
            ),
            "others" => format!(
                "the list has {count}, and that of the running nodes ({nodes}) has {detail}: stop all nodes, and start them \
                 with the same list (a node that was killed counts for up to 12 seconds)"
            ),
            "changed" if is_as_long => {
                "the list of the other nodes has other addresses by now".to_owned()
            }
            "changed" => {
                format!("the list has {count}, and that of the other nodes has {detail} by now")
            }
            "later" => {
                // The first one is asked again.
                self.newest.fetch_max(detail.parse().unwrap_or(0), Relaxed);
                let why = "was told a newer list than the first one knows";
                return unfit(format!("instance {this} of the list {why}"));
            }
            "twice" => format!(
                "instance {this} of the list is instance {detail} already: list each once, in the same order on all nodes"
            ),
            "first" => format!(
                "instance {this} of the list was instance {detail}: list them in the same order on all nodes, and the first \
                 one always first, as it has the users, queues and revocations (to give those up, stop all nodes and run \
                 HDEL {prefix}:log layout seed run on this instance)"
            ),
            "alone" => {
                format!("instance {this} of the list was in use alone: list it first, or empty it")
            }
            other => other.to_owned(),
        };
        self.refused.lock().insert(place, why.clone());
        unfit(why)
    }

    /// The call that reads which generation an instance has been told.
    pub(super) fn look(prefix: &str) -> Cmd {
        let mut look = cmd("HGET");
        look.arg(format!("{prefix}:log")).arg("layout");
        look
    }

    /// Whether a connection that began with `admitted` may go on, now that the instance names this generation.
    pub(super) fn holds(&self, admitted: &Admitted, found: &[u8]) -> bool {
        let name = &*admitted.generation;
        let is_current = |current: &Generation| current.name == name;
        let is_newest = name.parse().unwrap_or(0) >= self.newest.load(Relaxed);
        is_newest
            && found == name.as_bytes()
            && self.generation.borrow().as_ref().is_some_and(is_current)
    }
}

fn unfit(why: String) -> RedisError {
    (ErrorKind::InvalidClientConfig, "REDIS_URL does not fit", why).into()
}

/// Tells lists of several servers apart that have the same length.
fn list_of(instances: &[Primary]) -> String {
    if instances.len() < 2 {
        return String::new();
    }
    let names = instances.iter().map(Primary::name).collect::<Vec<_>>().join("\n");
    let hash = digest(&SHA256, names.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_ref()[..8]);
    format!("{:016x}", u64::from_be_bytes(first))
}
