//! Offers of a packet that the library has to take before anything else.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Sleep, sleep};

use super::inbound;

/// How long until a packet that the library has not taken is offered again, the first time.
const OFFER: Duration = Duration::from_millis(10);

/// How often a packet is offered in all, each time after twice as long. Then nothing will take it.
const OFFERS: u32 = 8;

/// How long the next offer waits; `None` after the last one.
fn next_offer(offers: u32) -> Option<Duration> {
    (offers < OFFERS).then(|| OFFER * 2_u32.pow(offers))
}

/// A packet that was offered.
#[derive(Debug)]
pub(super) struct Offer {
    packet: Vec<u8>,
    offers: u32,
    again: Pin<Box<Sleep>>,
}

impl Offer {
    /// The first offer of this packet.
    pub(super) fn new(packet: Vec<u8>) -> Self {
        Self { packet, offers: 0, again: Box::pin(sleep(OFFER)) }
    }

    /// Waits until it is time to offer the packet again, as this frame; `None` after the last offer.
    pub(super) fn poll_again(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        ready!(self.again.as_mut().poll(context));
        self.offers += 1;
        Poll::Ready(next_offer(self.offers).map(|wait| {
            self.again.set(sleep(wait));
            inbound::frame(&self.packet).into()
        }))
    }
}
