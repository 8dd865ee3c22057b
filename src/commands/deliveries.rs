//! Which users' queues are being delivered.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::protocol::names::UserId;

/// The users whose queues are being delivered, so that one client at a time gets them.
#[derive(Debug, Default)]
pub struct Deliveries {
    users: Mutex<HashMap<UserId, Delivery>>,
}

#[derive(Debug, Default)]
struct Delivery {
    /// Somebody asked once more while it was running.
    asked: bool,
    /// Another node is to have the queue.
    gives_way: bool,
    /// Told of it, so that nobody waits for the time of confirmation.
    wake: Arc<Notify>,
}

impl Deliveries {
    /// Begins a delivery, which is told through the answer when it should look once more; `None` if
    /// one is running, which is told.
    pub(super) fn begin(&self, user: &UserId) -> Option<Arc<Notify>> {
        let mut users = self.users.lock();
        if let Some(delivery) = users.get_mut(user) {
            delivery.asked = true;
            delivery.wake.notify_one();
            return None;
        }
        let delivery = Delivery::default();
        let wake = delivery.wake.clone();
        users.insert(user.clone(), delivery);
        Some(wake)
    }

    /// The delivery that is running is to leave the queue to another node.
    pub(super) fn give_way(&self, user: &UserId) {
        if let Some(delivery) = self.users.lock().get_mut(user) {
            delivery.gives_way = true;
            delivery.wake.notify_one();
        }
    }

    /// Whether the delivery has been told so.
    pub(super) fn gives_way(&self, user: &UserId) -> bool {
        let mut users = self.users.lock();
        users.get_mut(user).is_some_and(|delivery| std::mem::take(&mut delivery.gives_way))
    }

    /// Whether the delivery goes on, because it should or because somebody asked meanwhile; if not,
    /// it has ended.
    pub(super) fn go_on(&self, user: &UserId, should: bool) -> bool {
        let mut users = self.users.lock();
        let asked = users.get_mut(user).is_some_and(|delivery| std::mem::take(&mut delivery.asked));
        if !asked && !should {
            users.remove(user);
        }
        asked || should
    }
}
