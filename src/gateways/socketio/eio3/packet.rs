//! One Engine.IO 3 packet as text: its type as a digit, then its data.
//!
//! A Socket.IO packet is the data of a `4` (message): `0` (CONNECT), the namespace unless it is `/`, a
//! comma, JSON; [engine.io-protocol, revision 3][engine], [socket.io-protocol, revision 4][socket].
//!
//! [engine]: https://github.com/socketio/engine.io-protocol/tree/v3
//! [socket]: https://github.com/socketio/socket.io-protocol/tree/v4

use serde_json::{Map, Value};

/// The beginning of every packet that connects to a namespace other than `/`.
pub(super) const CONNECT: &str = "40/";

/// A CONNECT packet with a query, rewritten with the query as its `auth`; `None` for every other packet.
///
/// Of repeated parameters the first counts. If the packet already has data, that is kept instead.
pub(super) fn upgrade_packet(packet: &str) -> Option<String> {
    let rest = &packet.strip_prefix(CONNECT)?;
    let (address, data) = rest.split_once(',').unwrap_or((rest, ""));
    let (path, query) = address.split_once('?')?;
    let mut auth = Map::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        auth.entry(name).or_insert_with(|| Value::String(value.into_owned()));
    }
    let mut packet = format!("{CONNECT}{path},{data}");
    if data.is_empty() && !auth.is_empty() {
        packet.push_str(&Value::Object(auth).to_string());
    }
    Some(packet)
}
