//! Read receipts.

use serde_json::value::RawValue;

use crate::{
    commands::context::App,
    hub::{Client, sender::Packet},
    protocol::{
        audience::Except,
        message_id::MessageId,
        names::RoomName,
        payload::{ObjectBuilder, Payload},
        refusal::Refusal,
        timestamp::Timestamp,
    },
};

/// A client's word that its user has read a message.
#[derive(Debug)]
pub struct Receipt {
    /// The message.
    pub message: MessageId,
    /// The room it was sent to.
    pub room: RoomName,
}

/// Tells the room's members, and records it with the message.
///
/// # Errors
/// `forbidden` where the token does not permit the room.
pub async fn read(app: &App, client: &Client, receipt: Receipt) -> Result<Payload, Refusal> {
    client.permit(&receipt.room)?;
    let id: &RawValue = &receipt.message.json;
    let json = ObjectBuilder::default()
        .raw("messageId", id)
        .set("userId", &client.user())
        .set("clientId", client.id.as_str())
        .set("roomId", &receipt.room)
        .set("timestamp", &Timestamp::now())
        .build();
    let packet = Packet::new("messageRead", Payload::from_raw(json));
    let recorded = record(app, client, &receipt).await?;
    app.bus.signal_room(&client.namespace, &receipt.room, &packet, &Except::nobody());
    let ack = ObjectBuilder::default().set("success", &true).set("recorded", &recorded).build();
    Ok(Payload::from_raw(ack))
}

/// Records the receipt of a member with a user, if the message is in the history.
async fn record(app: &App, client: &Client, receipt: &Receipt) -> Result<bool, Refusal> {
    let (Some(log), Some(user)) = (app.bus.log(), client.user()) else { return Ok(false) };
    if !client.is_in(receipt.room.as_str()) {
        return Ok(false);
    }
    let key = client.namespace.key(&receipt.room);
    let now = Timestamp::now().as_millis();
    Ok(log.record_receipt(key, receipt.message.text.clone(), user, now).await?)
}
