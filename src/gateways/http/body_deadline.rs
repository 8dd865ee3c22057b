//! The deadline of request bodies.
//!
//! A caller that announces a body and sends a byte now and then would hold a connection, and the handler that
//! waits for it, for as long as it likes.

use std::{io, time::Duration};

use axum::{
    body::{Body, BodyDataStream, Bytes, HttpBody},
    extract::Request,
};
use futures_util::{Stream, StreamExt, stream::try_unfold};
use tokio::time::{Instant, timeout_at};

/// How long a body may take to arrive. A megabyte takes half of it at 33 KB a second.
const DEADLINE: Duration = Duration::from_mins(1);

/// Makes the request's body fail if it does not arrive in time.
pub(super) fn set(request: Request) -> Request {
    if request.body().is_end_stream() {
        return request;
    }
    let deadline = Instant::now() + DEADLINE;
    request.map(|body| Body::from_stream(until(deadline, body.into_data_stream())))
}

fn until(
    deadline: Instant,
    body: BodyDataStream,
) -> impl Stream<Item = Result<Bytes, axum::BoxError>> {
    try_unfold(body, move |mut body| async move {
        match timeout_at(deadline, body.next()).await {
            Ok(Some(Ok(bytes))) => Ok(Some((bytes, body))),
            Ok(Some(Err(error))) => Err(error.into()),
            Ok(None) => Ok(None),
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    })
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    /// Passes a request with this body through; returns what a handler reads of it.
    async fn read(body: Body) -> Result<Bytes, axum::Error> {
        let request = set(Request::new(body));
        axum::body::to_bytes(request.into_body(), 1000).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_ends_in_time_is_whole() {
        assert_eq!(read(Body::empty()).await.unwrap(), "");
        assert_eq!(read(Body::from("hello")).await.unwrap(), "hello");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_fails_at_the_deadline() {
        let began = Instant::now();
        let drops = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(7)).await;
            Some((Ok::<_, io::Error>("x"), ()))
        });
        assert!(read(Body::from_stream(drops)).await.is_err());
        assert_eq!(began.elapsed(), DEADLINE);
    }
}
