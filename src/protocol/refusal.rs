//! Why something was refused: a stable code and a message for a person.
//!
//! Commands return a [`Refusal`]; each gateway puts it in its own format (a Socket.IO `error` event and ack,
//! or an HTTP status with NestJS's body).

use std::{borrow::Cow, time::Duration};

use serde_json::value::RawValue;

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
    /// The application's backend refuses it.
    Rejected,
    /// The idempotency key was used for other content.
    IdempotencyMismatch,
}

impl Code {
    /// Every code, in the contract's order.
    pub const ALL: [Self; 13] = [
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
        Self::Rejected,
        Self::IdempotencyMismatch,
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
            Self::Rejected => "rejected",
            Self::IdempotencyMismatch => "idempotency_mismatch",
        }
    }

    /// What the code means, and what to do about it, in one line of Markdown.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::NoRoom => {
                "The payload names no room. Add `roomName`, `roomId`, `room` or `resourceId`."
            }
            Self::InvalidPayload => {
                "The argument does not have the required shape, is nested too deeply, or is not the only one. Fix the payload."
            }
            Self::UnknownEvent => {
                "The server does not know the event. Check its name, or let [your backend](handlers.md) answer it."
            }
            Self::Unauthorized => {
                "The token is missing, invalid, expired or revoked, or the event needs a user. Get a new token."
            }
            Self::Forbidden => {
                "The [permissions](authentication.md#rooms) of the client do not allow it, or `NAMESPACE_MESSAGES` is off."
            }
            Self::RateLimited => {
                "Too many events, or too many failed authentications. Wait for `retryAfterMs`."
            }
            Self::TooLarge => {
                "The request body or the handshake is larger than allowed. Send less, or a reference to it."
            }
            Self::TooManyRooms => {
                "The client is in `MAX_ROOMS_PER_CLIENT` rooms, or the server has `MAX_ROOMS` rooms. Leave a room."
            }
            Self::NotFound => {
                "The target does not exist: the user is offline and nothing can be queued, the message is not in the history, or the namespace does not exist."
            }
            Self::QueueFull => {
                "The offline queue of the user is full, or the sender has `QUEUE_SENDER_LIMIT` messages waiting. Try again later."
            }
            Self::Unavailable => {
                "The server cannot do it now, and has changed nothing: it is stopping, short of memory, or its store, Redis or the backend fails. Try again later."
            }
            Self::Rejected => {
                "[Your backend](handlers.md) has refused it. It may use a code of its own, and add `data`."
            }
            Self::IdempotencyMismatch => {
                "The idempotency key was used with other content. Give each message a key of its own."
            }
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
    /// What the application's backend says besides, if it is the one that refuses.
    pub rejection: Option<Box<Rejection>>,
}

/// What a backend says of a refusal besides its message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rejection {
    /// A code of its own, in the place of `rejected`.
    pub code: Option<String>,
    /// What else the client is told, as JSON text.
    pub data: Option<String>,
}

impl Refusal {
    /// A refusal with `code`, saying `message`.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_after: None, rejection: None }
    }

    /// The same with the time after which it may succeed.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// The application's backend refuses it.
    pub fn rejected(message: impl Into<Cow<'static, str>>, rejection: Rejection) -> Self {
        Self { rejection: Some(rejection.into()), ..Self::new(Code::Rejected, message) }
    }

    /// The code as it stands on the wire: the backend's own, where it gave one.
    pub fn shown_code(&self) -> &str {
        let own = self.rejection.as_ref().and_then(|rejection| rejection.code.as_deref());
        own.unwrap_or_else(|| self.code.as_str())
    }

    /// What else the client is told, if anything.
    pub fn data(&self) -> Option<Box<RawValue>> {
        let data = self.rejection.as_ref()?.data.clone()?;
        RawValue::from_string(data).ok()
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
