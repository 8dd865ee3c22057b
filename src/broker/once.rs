//! Messages to rooms that happen once.

use super::{Broker, RoomMessage};
use crate::{
    protocol::refusal::{Code, Refusal},
    store::{Done, Once},
};

impl Broker {
    /// As [`publish`](Self::publish), for a message that happens once: its key is stored with it. The output of one that
    /// happens now is its offset. There must be a log.
    ///
    /// # Errors
    /// As [`publish`](Self::publish); `idempotency_mismatch`.
    pub fn publish_once(
        &self,
        message: RoomMessage,
        once: Once,
    ) -> impl Future<Output = Result<Done<u64>, Refusal>> + Send + use<> {
        let broker = self.clone();
        let (namespace, name) = (message.namespace.clone(), message.room.clone());
        let appended = self.log.as_ref().map(|log| log.append_once(self.to_append(message), once));
        async move {
            let Some(appended) = appended else {
                return Err(Refusal::new(Code::Unavailable, "there is no history"));
            };
            let position = match appended.await? {
                Done::Now(position) => position,
                Done::Before(before) => return Ok(Done::Before(before)),
                Done::UnderWay => return Ok(Done::UnderWay),
            };
            if let Some(cluster) = &broker.cluster {
                cluster.delivered(&namespace.key(&name), position).await;
            }
            broker.wait_drained(&namespace, Some(&name)).await;
            Ok(Done::Now(position.offset))
        }
    }
}
