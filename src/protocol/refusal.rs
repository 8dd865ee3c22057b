//! Why something was refused: a stable code and a message for a person.
//!
//! Commands return a [`Refusal`]; each gateway puts it in its own format (a Socket.IO `error` event and ack,
//! or an HTTP status with NestJS's body).

use std::{borrow::Cow, time::Duration};

/// The stable codes of the wire contract, section 9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// The event needs a room and names none.
    NoRoom,
    /// The payload does not have the shape that the event needs.
    InvalidPayload,
    /// No such event.
    UnknownEvent,
    /// An identity is needed, or the one given is not valid.
    Unauthorized,
    /// The identity does not permit it.
    Forbidden,
    /// Too many in too short a time.
    RateLimited,
    /// Larger than is allowed.
    TooLarge,
    /// The client is in as many rooms as it may be, or the server holds as many as it may.
    TooManyRooms,
    /// What is named does not exist or is offline.
    NotFound,
    /// The user's offline queue is full.
    QueueFull,
    /// The server cannot do it now; trying again later may succeed.
    Unavailable,
}

impl Code {
    /// Every code, in the contract's order.
    pub const ALL: [Self; 11] = [
        Self::NoRoom,
        Self::InvalidPayload,
        Self::UnknownEvent,
        Self::Unauthorized,
        Self::Forbidden,
        Self::RateLimited,
        Self::TooLarge,
        Self::TooManyRooms,
        Self::NotFound,
        Self::QueueFull,
        Self::Unavailable,
    ];

    /// The code as it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoRoom => "no_room",
            Self::InvalidPayload => "invalid_payload",
            Self::UnknownEvent => "unknown_event",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::RateLimited => "rate_limited",
            Self::TooLarge => "too_large",
            Self::TooManyRooms => "too_many_rooms",
            Self::NotFound => "not_found",
            Self::QueueFull => "queue_full",
            Self::Unavailable => "unavailable",
        }
    }
}

impl serde::Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A refusal: nothing was changed, and this says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The stable code.
    pub code: Code,
    /// What was wrong, what is allowed, what to do.
    pub message: Cow<'static, str>,
    /// When trying again may succeed, if known.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal with `code`, saying `message`.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    /// The payload does not have the shape that the event needs.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidPayload, message)
    }

    /// The event needs a room and names none; the message is the one that clients already know.
    pub fn no_room() -> Self {
        Self::new(Code::NoRoom, "No resourceId specified in the message")
    }

    /// The identity does not permit it.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Forbidden, message)
    }
}
