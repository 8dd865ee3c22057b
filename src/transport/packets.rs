//! What the gateway decides on packets that open and close namespaces.

use std::{
    fmt,
    task::{Context, Poll},
};

/// Inspects the packets that open and close namespaces, before the library or the client gets them.
pub trait Packets: fmt::Debug + Send + Sync {
    /// Decides what happens to a packet of the client that opens or closes a namespace, given as text.
    fn came(&self, packet: &[u8]) -> Came;

    /// Whether a client may send events to this namespace, as far as it is known here; if not, the connection
    /// ends.
    fn knows(&self, _namespace: &str) -> bool {
        true
    }

    /// Decides what becomes of the library's answer to a CONNECT packet, given as text.
    fn goes(&self, _answer: &[u8]) -> Goes {
        Goes::AsIs
    }

    /// Ready when the [offered](Came::Offer) packet is taken; wakes the reader then.
    fn poll_taken(&self, context: &mut Context<'_>) -> Poll<()>;
}

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// The library gets it.
    Pass,
    /// The library gets it, and nothing that follows until it is taken. The library may ignore a CONNECT
    /// packet, so it is offered again.
    Offer,
    /// It is one too many: the connection ends at once.
    TooMany,
    /// It is not allowed where the connection is: the connection is closed in order.
    Ends,
}

/// What becomes of a packet of the library's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goes {
    /// The client gets it.
    AsIs,
    /// The client does not get it.
    Nowhere,
    /// The client gets this text in its place.
    Instead(String),
}
