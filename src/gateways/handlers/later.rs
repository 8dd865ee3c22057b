//! Acknowledgements that the backend gives later.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;

use crate::{
    commands::{context::Context, refused},
    hub::Client,
    memory::Charge,
    protocol::{
        payload::Payload,
        refusal::{Code, Refusal},
    },
};

/// How long the backend may take.
const WITHIN: Duration = Duration::from_secs(30);

/// What one that is waited for takes in memory, in bytes.
const SIZE: usize = 512;

/// The acknowledgements that this node waits for, by the ids of their requests.
#[derive(Debug, Clone, Default)]
pub(super) struct Later(Arc<Mutex<HashMap<String, Waiting>>>);

#[derive(Debug)]
struct Waiting {
    /// Weak: a client that has gone is forgotten.
    client: Weak<Client>,
    ack: i64,
    event: String,
    _charge: Option<Charge>,
}

impl Later {
    /// Waits for the acknowledgement of a client's event. If it does not come in time, the client is told so.
    pub(super) fn wait(
        &self,
        context: &Context,
        id: String,
        client: &Arc<Client>,
        ack: i64,
        event: String,
    ) {
        let charge = client.sender.account().charge_incoming(SIZE + event.len());
        let waiting = Waiting { client: Arc::downgrade(client), ack, event, _charge: charge };
        self.0.lock().insert(id.clone(), waiting);
        let (later, context) = (self.clone(), context.clone());
        tokio::spawn(async move {
            tokio::time::sleep(WITHIN).await;
            let Some(Waiting { client, ack, event, .. }) = later.0.lock().remove(&id) else {
                return;
            };
            let Some(client) = client.upgrade() else { return };
            tracing::warn!(client = %client.id, id, "the application's backend did not acknowledge an accepted event in time");
            let message =
                "the application's backend accepted the event, and did not answer in time";
            context.metrics.refused(Code::Unavailable);
            refused::tell(&client, &event, Some(ack), &Refusal::new(Code::Unavailable, message));
        });
    }

    /// Acknowledges a client's event with these arguments; false if nobody waits for that here.
    pub(super) fn acknowledge(&self, id: &str, arguments: &Payload) -> bool {
        let Some(Waiting { client, ack, .. }) = self.0.lock().remove(id) else { return false };
        let Some(client) = client.upgrade() else { return false };
        client.sender.acknowledge_with(ack, arguments).is_taken()
    }
}
