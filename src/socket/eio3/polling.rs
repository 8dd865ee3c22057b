//! The bodies of polling: packets of the client in that of a POST, packets of the server in that of
//! the answer to a GET.

use axum::{
    body::{Body, BodyDataStream, Bytes},
    extract::Request,
    http::{HeaderValue, StatusCode, header::CONTENT_LENGTH},
    response::Response,
};
use futures_util::{StreamExt, stream};

use super::{
    packet::{self, Packet},
    payload::Encoding,
};

/// The request, with the packets of its body as later protocols have them.
///
/// A body of more than `max_payload` bytes passes as it is: the library refuses it, and says how.
pub async fn modernize(request: Request, max_payload: usize) -> Request {
    let (mut parts, body) = request.into_parts();
    let body = match read(body.into_data_stream(), max_payload).await {
        Read::Whole(body) => {
            let modern = |packet: &str| packet::modernize(packet).map(Packet::Text);
            match Encoding::of(&parts.headers).replace(&body, modern) {
                Some(body) => {
                    // It is the library that counts, but what the headers say should be true.
                    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
                    Body::from(body)
                }
                None => Body::from(body),
            }
        }
        Read::Else(body) => body,
    };
    Request::from_parts(parts, body)
}

/// What is to be had of a body.
pub enum Read {
    /// All there is.
    Whole(Bytes),
    /// More than is wanted, or an error at its end.
    Else(Body),
}

/// Reads a body of at most `most` bytes.
pub async fn read(mut body: BodyDataStream, most: usize) -> Read {
    let mut chunks = Vec::new();
    let mut size = 0_usize;
    while let Some(chunk) = body.next().await {
        let sum = chunk.as_ref().ok().and_then(|chunk| size.checked_add(chunk.len()));
        chunks.push(chunk);
        match sum {
            Some(sum) if sum <= most => size = sum,
            _ => return Read::Else(Body::from_stream(stream::iter(chunks).chain(body))),
        }
    }
    let mut chunks: Vec<Bytes> = chunks.into_iter().flatten().collect();
    Read::Whole(match chunks.len() {
        1 => chunks.swap_remove(0),
        _ => chunks.concat().into(),
    })
}

/// The answer to a poll, with its binary packets as Engine.IO 3 has them.
pub async fn mend(response: Response) -> Response {
    if response.status() != StatusCode::OK {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let body = match read(body.into_data_stream(), usize::MAX).await {
        Read::Whole(body) => match Encoding::of(&parts.headers).replace(&body, packet::mend) {
            Some(body) => {
                parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
                Body::from(body)
            }
            None => Body::from(body),
        },
        Read::Else(body) => body,
    };
    Response::from_parts(parts, body)
}
