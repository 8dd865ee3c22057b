//! Events that clients acknowledge.
//!
//! They go out through the library, which numbers them and finds the client that answers.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, MapAccess, SeqAccess, Visitor},
    ser::SerializeTuple,
};

use super::sender::ClientSender;
use crate::protocol::payload::{Payload, json_of};

/// Sends an event with these arguments. The future's output is the acknowledgement's arguments, in JSON; `None`
/// if the client goes first, or its answer cannot be read. `None` if nothing can be sent.
pub fn ask(
    sender: &ClientSender,
    event: &str,
    arguments: &[Payload],
) -> Option<impl Future<Output = Option<String>> + Send + use<>> {
    if sender.is_closed() {
        return None;
    }
    let asked = sender.socket()?.emit_with_ack::<_, Answer>(event, &Arguments(arguments)).ok()?;
    Some(async move {
        let answer = asked.await.inspect_err(|error| tracing::debug!(%error, "no acknowledgement"));
        answer.ok().map(|Answer(json)| json)
    })
}

/// Several arguments: to the library, a tuple.
struct Arguments<'a>(&'a [Payload]);

impl Serialize for Arguments<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        for argument in self.0 {
            tuple.serialize_element(argument)?;
        }
        tuple.end()
    }
}

/// All arguments of an acknowledgement, as a JSON array in which binary values are tagged.
struct Answer(String);

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut json = String::new();
        // The library gives all arguments to a tuple, of any length.
        deserializer.deserialize_tuple(0, Write(&mut json))?;
        Ok(Self(json))
    }
}

/// Writes what it visits to the end of a text.
struct Write<'a>(&'a mut String);

impl Write<'_> {
    fn put<T: Serialize + ?Sized>(self, value: &T) {
        self.0.push_str(json_of(value).get());
    }
}

impl<'de> DeserializeSeed<'de> for Write<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Write<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.put(&value);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.put(&value);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.put(&value);
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.put(&value);
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.put(value);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.push_str("null");
        Ok(())
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<(), E> {
        self.0.push_str("{\"$binary\":\"");
        STANDARD.encode_string(value, self.0);
        self.0.push_str("\"}");
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.0.push('[');
        let empty = self.0.len();
        loop {
            let end = self.0.len();
            if end > empty {
                self.0.push(',');
            }
            if items.next_element_seed(Write(self.0))?.is_none() {
                self.0.truncate(end);
                break;
            }
        }
        self.0.push(']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let begin = self.0.len();
        let (mut count, mut first) = (0, None);
        self.0.push('{');
        while let Some(key) = fields.next_key::<String>()? {
            if count > 0 {
                self.0.push(',');
            }
            count += 1;
            self.0.push_str(json_of(&key).get());
            self.0.push(':');
            fields.next_value_seed(Write(self.0))?;
            first.get_or_insert(key);
        }
        self.0.push('}');
        // It could be taken for a tagged value.
        if count == 1 && first.is_some_and(|key| key.starts_with('$')) {
            self.0.insert_str(begin, "{\"$literal\":");
            self.0.push('}');
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_arguments_of_an_acknowledgement_are_read() {
        for (given, wanted) in [
            ("[]", "[]"),
            ("[null]", "[null]"),
            (r#"[1, -2, 0.5, "\u00e9\n", true]"#, r#"[1,-2,0.5,"é\n",true]"#),
            (r#"[{"a":[{}],"b":{"$c":1,"d":2}},[]]"#, r#"[{"a":[{}],"b":{"$c":1,"d":2}},[]]"#),
            (r#"[{"$binary":"x"}]"#, r#"[{"$literal":{"$binary":"x"}}]"#),
            (r#"[{"$a":{"$b":1}}]"#, r#"[{"$literal":{"$a":{"$literal":{"$b":1}}}}]"#),
        ] {
            let Answer(json) = serde_json::from_str(given).unwrap();
            assert_eq!(json, wanted);
        }
    }
}
