//! What a client sends: its POSTs, and the byte stream after an upgrade.

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::net::tcp::OwnedReadHalf;

use super::{super::Connection, Polling, Session};

/// A client's frame with an invalid packet, over which the library ends the session.
const INVALID: [u8; 7] = [0x81, 0x81, 0, 0, 0, 0, b'x'];

/// What has come by POST.
#[derive(Debug, Default)]
pub(super) struct Posts {
    post: Posting,
    /// The peer's byte stream after the upgrade, and what was read from it already.
    pub(super) upgraded: Option<(OwnedReadHalf, Bytes)>,
    /// The library reads that byte stream.
    is_upgraded: bool,
}

#[derive(Debug, Default)]
enum Posting {
    /// No POST.
    #[default]
    Nothing,
    /// The body is on its way.
    Coming,
    /// The whole body waits for the library.
    Waits(Bytes),
    /// The library has the body and has not asked for more.
    Taken,
}

/// What comes next from the client.
#[derive(Debug)]
pub(crate) enum Posted {
    /// Frames.
    Frames(Bytes),
    /// The peer's own byte stream, and what was read from it already.
    Upgraded(OwnedReadHalf, Bytes),
    /// Nothing: the connection is over.
    Over,
}

impl Connection {
    /// Takes the next posted frames, or the stream after an upgrade.
    pub(in crate::transport) fn poll_posted(&self, context: &mut Context<'_>) -> Poll<Posted> {
        let Some(polling) = &self.polling else { return Poll::Ready(Posted::Over) };
        self.reader.register(context.waker());
        let mut posts = polling.posts.lock();
        match mem::take(&mut posts.post) {
            Posting::Waits(frames) => {
                posts.post = Posting::Taken;
                return Poll::Ready(Posted::Frames(frames));
            }
            // The library asks for more when it has processed what it has.
            Posting::Taken => self.left.notify_waiters(),
            post => posts.post = post,
        }
        if let Some((reader, read)) = posts.upgraded.take() {
            posts.is_upgraded = true;
            return Poll::Ready(Posted::Upgraded(reader, read));
        }
        drop(posts);
        if self.is_over() { Poll::Ready(Posted::Over) } else { Poll::Pending }
    }

    /// Hands what was posted to the library.
    fn hand_in(&self, frames: Bytes) {
        let Some(polling) = &self.polling else { return };
        let mut posts = polling.posts.lock();
        // After an upgrade nobody takes it.
        posts.post = if posts.is_upgraded { Posting::Nothing } else { Posting::Waits(frames) };
        drop(posts);
        self.reader.wake();
    }

    /// Whether something was posted that the library has not processed yet.
    fn has_post(&self) -> bool {
        let posted = |polling: &Polling| !matches!(polling.posts.lock().post, Posting::Nothing);
        self.polling.as_deref().is_some_and(posted)
    }
}

impl Session {
    /// Begins a POST; `None` if one is under way or the session is over.
    pub fn post(&self) -> Option<Post> {
        let mut posts = self.0.polling.as_ref()?.posts.lock();
        if !matches!(posts.post, Posting::Nothing) || self.0.is_over() {
            return None;
        }
        posts.post = Posting::Coming;
        Some(Post(Some(self.0.clone())))
    }
}

/// A POST of a session. Dropping it unfinished ends the session, because part of what the client sent is
/// lost.
#[derive(Debug)]
pub struct Post(Option<Arc<Connection>>);

impl Post {
    /// Hands frames to the library and waits until it has processed them, or the session is over.
    pub async fn give(mut self, frames: Bytes) {
        let Some(connection) = self.0.take() else { return };
        connection.hand_in(frames);
        connection.wait_until(|connection| !connection.has_post()).await;
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.hand_in(Bytes::from_static(&INVALID));
        }
    }
}
