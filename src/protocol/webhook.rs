//! What a backend is told of by webhooks.

/// A type of webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookType {
    /// A client has connected.
    ClientConnected,
    /// A client has gone.
    ClientDisconnected,
    /// A user has its first client.
    UserOnline,
    /// A user has had no client for `PRESENCE_GRACE`.
    UserOffline,
    /// A room has its first member.
    RoomOccupied,
    /// A room has had no member for a while.
    RoomVacated,
    /// A client has become a member of a room.
    RoomJoined,
    /// A client is no longer a member of a room.
    RoomLeft,
    /// A message to a room.
    MessageCreated,
    /// A message waits for an offline user.
    MessageQueued,
    /// A node has started.
    NodeStarted,
    /// A node has ended without a word.
    NodeLost,
}

impl WebhookType {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::ClientConnected,
        Self::ClientDisconnected,
        Self::UserOnline,
        Self::UserOffline,
        Self::RoomOccupied,
        Self::RoomVacated,
        Self::RoomJoined,
        Self::RoomLeft,
        Self::MessageCreated,
        Self::MessageQueued,
        Self::NodeStarted,
        Self::NodeLost,
    ];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientConnected => "client.connected",
            Self::ClientDisconnected => "client.disconnected",
            Self::UserOnline => "user.online",
            Self::UserOffline => "user.offline",
            Self::RoomOccupied => "room.occupied",
            Self::RoomVacated => "room.vacated",
            Self::RoomJoined => "room.joined",
            Self::RoomLeft => "room.left",
            Self::MessageCreated => "message.created",
            Self::MessageQueued => "message.queued",
            Self::NodeStarted => "node.started",
            Self::NodeLost => "node.lost",
        }
    }
}
