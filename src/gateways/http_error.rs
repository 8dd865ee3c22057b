//! The HTTP gateway's errors: NestJS's body, for every answer that is no success.

use std::{borrow::Cow, time::Duration};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::protocol::refusal::{Code, Refusal};

/// The body of an error, in NestJS's format.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Error, examples(json!({"statusCode": 404, "message": "Cannot GET /x", "error": "Not Found"})))]
pub struct ErrorBody {
    /// The HTTP status.
    status_code: u16,
    message: Message,
    /// The name of the HTTP status.
    error: &'static str,
}

/// One sentence, or a list if the request's fields were validated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = ErrorMessage)]
pub enum Message {
    /// What was wrong.
    #[schema(value_type = String)]
    One(Cow<'static, str>),
    /// Everything that was wrong.
    Many(Vec<String>),
}

/// An answer other than a success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpError {
    status: StatusCode,
    message: Message,
    retry_after: Option<Duration>,
}

impl HttpError {
    /// An answer with `status`, saying `message`.
    pub fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: Message::One(message.into()), retry_after: None }
    }

    /// 400 with everything that is wrong with the request's fields.
    pub fn faults(faults: Vec<String>) -> Self {
        let message = Message::Many(faults);
        Self { status: StatusCode::BAD_REQUEST, message, retry_after: None }
    }

    /// 400, for input that is not even a set of fields.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
}

impl From<Refusal> for HttpError {
    fn from(refusal: Refusal) -> Self {
        let status = status_of(refusal.code);
        Self { status, message: Message::One(refusal.message), retry_after: refusal.retry_after }
    }
}

/// The status that answers a request which is refused with this code.
pub(super) fn status_of(code: Code) -> StatusCode {
    match code {
        Code::NoRoom | Code::InvalidPayload | Code::UnknownEvent => StatusCode::BAD_REQUEST,
        Code::Unauthorized => StatusCode::UNAUTHORIZED,
        Code::Forbidden => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::Rejected | Code::IdempotencyMismatch => StatusCode::UNPROCESSABLE_ENTITY,
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::TooManyRooms | Code::QueueFull | Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let body = ErrorBody {
            status_code: self.status.as_u16(),
            message: self.message,
            error: self.status.canonical_reason().unwrap_or("Error"),
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(wait) = self.retry_after {
            // The header counts whole seconds: rounded up, so that a caller that obeys is not refused again.
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
                headers.insert(header::RETRY_AFTER, value);
            }
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_status_of_its_kind() {
        for code in Code::ALL {
            let error = HttpError::from(Refusal::new(code, "why"));
            assert!(error.status.is_client_error() || error.status.is_server_error(), "{code:?}");
            assert_ne!(error.status, StatusCode::INTERNAL_SERVER_ERROR, "{code:?}");
        }
    }

    #[test]
    fn the_wait_is_told_in_whole_seconds_rounded_up() {
        for (millis, seconds) in [(1, "1"), (1000, "1"), (1001, "2")] {
            let mut refusal = Refusal::new(Code::RateLimited, "slower");
            refusal.retry_after = Some(Duration::from_millis(millis));
            let response = HttpError::from(refusal).into_response();
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(response.headers()[header::RETRY_AFTER], seconds);
        }
    }
}
