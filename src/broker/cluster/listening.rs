//! The connection that listens. In a Redis Cluster it listens to channels of the place's slot: those live on the node that
//! serves the slot, and go with it.

use futures_util::{StreamExt, stream, stream::BoxStream};
use redis::{
    AsyncConnectionConfig, Client, Msg, ProtocolVersion, PushInfo, PushKind, RedisError,
    RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection, PubSubSink},
};
use tokio::sync::mpsc;

/// Subscribes and unsubscribes.
pub(super) enum Sink {
    All(PubSubSink),
    Slot(MultiplexedConnection),
}

/// What is heard; it ends with the connection, or when the slot goes to another node.
pub(super) type Heard = BoxStream<'static, Msg>;

/// Connects. The node's own channels are never unsubscribed from, unless Redis does.
pub(super) async fn listen(
    client: &Client,
    is_in_slot: bool,
    own: &[String],
) -> RedisResult<(Sink, Heard)> {
    if !is_in_slot {
        let (sink, heard) = client.get_async_pubsub().await?.split();
        return Ok((Sink::All(sink), heard.boxed()));
    }
    let info = client.get_connection_info().clone();
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let client = Client::open(info.set_redis_settings(settings))?;
    let (sender, pushes) = mpsc::unbounded_channel();
    let config = AsyncConnectionConfig::new().set_response_timeout(None).set_push_sender(sender);
    let sink = Sink::Slot(client.get_multiplexed_async_connection_with_config(&config).await?);
    let heard = stream::unfold((pushes, own.to_vec()), async |(mut pushes, own)| {
        loop {
            let push = pushes.recv().await?;
            if ends(&push, &own) {
                return None;
            }
            if let Some(message) = Msg::from_push_info(push) {
                return Some((message, (pushes, own)));
            }
        }
    });
    // It may be asked again after its end.
    Ok((sink, heard.fuse().boxed()))
}

/// Whether nothing is heard any more: when a slot goes, Redis ends the subscriptions to its channels.
fn ends(push: &PushInfo, own: &[String]) -> bool {
    match (&push.kind, push.data.first()) {
        (PushKind::Disconnection, _) => true,
        (PushKind::SUnsubscribe, Some(Value::BulkString(channel))) => {
            own.iter().any(|own| own.as_bytes() == channel)
        }
        _ => false,
    }
}

impl Sink {
    pub(super) async fn subscribe(&mut self, channels: &[String]) -> RedisResult<()> {
        match self {
            Self::All(sink) => sink.subscribe(channels).await,
            Self::Slot(connection) => each(connection, "SSUBSCRIBE", channels).await,
        }
    }

    pub(super) async fn unsubscribe(&mut self, channels: &[String]) -> RedisResult<()> {
        match self {
            Self::All(sink) => sink.unsubscribe(channels).await,
            Self::Slot(connection) => each(connection, "SUNSUBSCRIBE", channels).await,
        }
    }
}

/// One command for each channel, as each is answered.
async fn each(
    connection: &mut MultiplexedConnection,
    command: &str,
    channels: &[String],
) -> RedisResult<()> {
    let mut pipeline = redis::pipe();
    for channel in channels {
        pipeline.cmd(command).arg(channel);
    }
    let answers = connection.req_packed_commands(&pipeline, 0, channels.len()).await?;
    let refused = answers.into_iter().find_map(|answer| match answer {
        Value::ServerError(error) => Some(RedisError::from(error)),
        _ => None,
    });
    refused.map_or(Ok(()), Err)
}
