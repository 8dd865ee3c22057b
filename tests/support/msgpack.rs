//! MessagePack, as Socket.IO's emitters write it.

use serde_json::Value;

/// A value in MessagePack. A list of numbers below a key `bytes` stands for binary data.
pub fn pack(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes, value);
    bytes
}

fn write(to: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => rmp::encode::write_nil(to).unwrap(),
        Value::Bool(value) => rmp::encode::write_bool(to, *value).unwrap(),
        Value::Number(number) => {
            let _marker = rmp::encode::write_sint(to, number.as_i64().unwrap()).unwrap();
        }
        Value::String(text) => rmp::encode::write_str(to, text).unwrap(),
        Value::Array(items) => {
            let _marker =
                rmp::encode::write_array_len(to, items.len().try_into().unwrap()).unwrap();
            for item in items {
                write(to, item);
            }
        }
        Value::Object(fields) => {
            let _marker = rmp::encode::write_map_len(to, fields.len().try_into().unwrap()).unwrap();
            for (key, value) in fields {
                rmp::encode::write_str(to, key).unwrap();
                match value {
                    Value::Array(items) if key == "bytes" => {
                        let byte = |item: &Value| u8::try_from(item.as_u64().unwrap()).unwrap();
                        let bytes = items.iter().map(byte).collect::<Vec<_>>();
                        rmp::encode::write_bin(to, &bytes).unwrap();
                    }
                    _ => write(to, value),
                }
            }
        }
    }
}
