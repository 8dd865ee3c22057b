//! Which users' queues are being delivered.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::protocol::names::UserId;

/// The users whose queues are being delivered. At most one client at a time gets a user's queue.
#[derive(Debug, Default)]
pub struct Deliveries {
    users: Mutex<HashMap<UserId, Delivery>>,
}

#[derive(Debug, Default)]
struct Delivery {
    /// Another delivery was requested while this one ran.
    asked: bool,
    /// Another node is to take the queue.
    gives_way: bool,
    /// Notified of either, so that the delivery reacts before `QUEUE_CONFIRM` is over.
    wake: Arc<Notify>,
}

impl Deliveries {
    /// Begins a delivery and returns the signal that tells it to look again. If one is running, signals that
    /// one and returns `None`.
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

    /// Tells the running delivery to leave the queue to another node.
    pub(super) fn give_way(&self, user: &UserId) {
        if let Some(delivery) = self.users.lock().get_mut(user) {
            delivery.gives_way = true;
            delivery.wake.notify_one();
        }
    }

    /// Takes the request to leave the queue to another node, if there is one.
    pub(super) fn gives_way(&self, user: &UserId) -> bool {
        let mut users = self.users.lock();
        users.get_mut(user).is_some_and(|delivery| std::mem::take(&mut delivery.gives_way))
    }

    /// Whether the delivery goes on, because it should or because another one was requested; if not, it has
    /// ended.
    pub(super) fn go_on(&self, user: &UserId, should: bool) -> bool {
        let mut users = self.users.lock();
        let asked = users.get_mut(user).is_some_and(|delivery| std::mem::take(&mut delivery.asked));
        if !asked && !should {
            users.remove(user);
        }
        asked || should
    }
}
