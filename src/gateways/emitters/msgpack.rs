//! MessagePack as JSON text.
//!
//! One pass, straight into the text: there is no tree in between that a small message could blow up. Binary
//! values become attachments. What JSON has no word for is written as JavaScript's `JSON.stringify` writes it: a
//! date as its ISO text, `undefined` and what is no finite number as `null`.

use std::{io::Write, sync::Arc};

use bytes::Bytes;
use rmp::Marker;
use serde_json::value::RawValue;

use super::Unfit;
use crate::{
    limits::MAX_DEPTH,
    protocol::{
        payload::{json_of, raw},
        timestamp::Timestamp,
    },
};

/// How deep a message may be: a payload of the greatest depth, with what emitters put around it.
const DEPTH: usize = MAX_DEPTH + 4;

/// The type of MessagePack's own time stamps.
const TIMESTAMP: i8 = -1;

/// The type under which older encoders of Socket.IO write what MessagePack had no type for.
const NOTEPACK: i8 = 0;

/// A value as JSON text, and the attachments that stand in it.
pub(super) struct Decoded {
    pub json: Box<RawValue>,
    pub attachments: Arc<[Bytes]>,
}

/// Reads one value, of at most `max` bytes as JSON with attachments.
///
/// # Errors
/// What is wrong with the bytes.
pub(super) fn decode(bytes: &[u8], max: usize) -> Result<Decoded, Unfit> {
    let mut reader =
        Reader { rest: bytes, json: Vec::new(), attachments: Vec::new(), size: 0, max };
    reader.value(0)?;
    if !reader.rest.is_empty() {
        return Err(Unfit("more follows its value".into()));
    }
    let json = String::from_utf8(reader.json).map_err(|_| Unfit("it is no text".into()))?;
    Ok(Decoded { json: raw(json), attachments: reader.attachments.into() })
}

struct Reader<'a> {
    rest: &'a [u8],
    json: Vec<u8>,
    attachments: Vec<Bytes>,
    /// The bytes of all attachments.
    size: usize,
    max: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Unfit> {
        let (taken, rest) =
            self.rest.split_at_checked(length).ok_or(Unfit("its end is missing".into()))?;
        self.rest = rest;
        Ok(taken)
    }

    fn marker(&mut self) -> Result<Marker, Unfit> {
        let [byte] = self.array()?;
        Ok(Marker::from_u8(byte))
    }

    /// An unsigned number of this many bytes.
    fn number(&mut self, bytes: usize) -> Result<u64, Unfit> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// A signed number of this many bytes.
    fn signed(&mut self, bytes: usize) -> Result<i64, Unfit> {
        let unused = 64 - 8 * bytes;
        Ok((self.number(bytes)? << unused).cast_signed() >> unused)
    }

    /// The length that this marker begins or is followed by: of a string, of bytes, of items.
    fn length(&mut self, marker: Marker) -> Result<usize, Unfit> {
        let length = match marker {
            Marker::FixStr(length) | Marker::FixArray(length) | Marker::FixMap(length) => {
                length.into()
            }
            Marker::FixExt1 => 1,
            Marker::FixExt2 => 2,
            Marker::FixExt4 => 4,
            Marker::FixExt8 => 8,
            Marker::FixExt16 => 16,
            Marker::Str8 | Marker::Bin8 | Marker::Ext8 => self.number(1)?,
            Marker::Str16 | Marker::Bin16 | Marker::Array16 | Marker::Map16 | Marker::Ext16 => {
                self.number(2)?
            }
            _ => self.number(4)?,
        };
        Ok(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// The whole number that this marker begins, if it is one.
    fn integer(&mut self, marker: Marker) -> Result<Option<String>, Unfit> {
        Ok(Some(match marker {
            Marker::FixPos(number) => number.to_string(),
            Marker::FixNeg(number) => number.to_string(),
            Marker::U8 => self.number(1)?.to_string(),
            Marker::U16 => self.number(2)?.to_string(),
            Marker::U32 => self.number(4)?.to_string(),
            Marker::U64 => self.number(8)?.to_string(),
            Marker::I8 => self.signed(1)?.to_string(),
            Marker::I16 => self.signed(2)?.to_string(),
            Marker::I32 => self.signed(4)?.to_string(),
            Marker::I64 => self.signed(8)?.to_string(),
            _ => return Ok(None),
        }))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unfit> {
        self.take(N)?.try_into().map_err(|_| Unfit("its end is missing".into()))
    }

    fn value(&mut self, depth: usize) -> Result<(), Unfit> {
        if depth > DEPTH {
            return Err(Unfit(format!("it is deeper than {MAX_DEPTH} levels").into()));
        }
        let marker = self.marker()?;
        if let Some(number) = self.integer(marker)? {
            self.put(&number);
            return Ok(());
        }
        match marker {
            Marker::Null => self.put("null"),
            Marker::True => self.put("true"),
            Marker::False => self.put("false"),
            Marker::F32 => {
                let number = f32::from_be_bytes(self.array()?);
                self.float(number.into());
            }
            Marker::F64 => {
                let number = f64::from_be_bytes(self.array()?);
                self.float(number);
            }
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                self.string(marker)?;
            }
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
                let length = self.length(marker)?;
                let bytes = self.take(length)?;
                self.attach(bytes);
            }
            Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => self.list(marker, depth)?,
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => self.map(marker, depth)?,
            Marker::Reserved => return Err(Unfit("it is no MessagePack".into())),
            // Whole numbers have been read.
            _ => self.extension(marker)?,
        }
        if self.json.len() + self.size > self.max {
            return Err(Unfit("it is larger than MAX_PAYLOAD".into()));
        }
        Ok(())
    }

    fn put(&mut self, text: &str) {
        self.json.extend_from_slice(text.as_bytes());
    }

    fn float(&mut self, number: f64) {
        if number.is_finite() {
            // Not `Display`, which writes large numbers in full.
            self.put(json_of(&number).get());
        } else {
            self.put("null");
        }
    }

    /// Halves of surrogate pairs, which JavaScript allows, are replaced.
    fn string(&mut self, marker: Marker) -> Result<(), Unfit> {
        let length = self.length(marker)?;
        let text = String::from_utf8_lossy(self.take(length)?);
        self.put(json_of(&*text).get());
        Ok(())
    }

    fn attach(&mut self, bytes: &[u8]) {
        let num = self.attachments.len();
        self.put(&format!("{{\"_placeholder\":true,\"num\":{num}}}"));
        self.size += bytes.len();
        self.attachments.push(Bytes::copy_from_slice(bytes));
    }

    fn list(&mut self, marker: Marker, depth: usize) -> Result<(), Unfit> {
        self.put("[");
        for at in 0..self.length(marker)? {
            if at > 0 {
                self.put(",");
            }
            self.value(depth + 1)?;
        }
        self.put("]");
        Ok(())
    }

    fn map(&mut self, marker: Marker, depth: usize) -> Result<(), Unfit> {
        self.put("{");
        for at in 0..self.length(marker)? {
            if at > 0 {
                self.put(",");
            }
            let key = self.marker()?;
            // Other languages have numbers for keys, too.
            if let Some(number) = self.integer(key)? {
                self.put(json_of(&number).get());
            } else if let Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 = key {
                self.string(key)?;
            } else {
                return Err(Unfit("a key is no string".into()));
            }
            self.put(":");
            self.value(depth + 1)?;
        }
        self.put("}");
        Ok(())
    }

    fn extension(&mut self, marker: Marker) -> Result<(), Unfit> {
        let is_fixed = !matches!(marker, Marker::Ext8 | Marker::Ext16 | Marker::Ext32);
        let length = self.length(marker)?;
        let [kind] = self.array()?;
        match (kind.cast_signed(), length, is_fixed) {
            (TIMESTAMP, 4, _) => {
                let seconds = self.number(4)?;
                self.date(seconds.cast_signed(), 0);
            }
            (TIMESTAMP, 8, _) => {
                let both = self.number(8)?;
                self.date((both & 0x3_ffff_ffff).cast_signed(), both >> 34);
            }
            (TIMESTAMP, 12, _) => {
                let nanoseconds = self.number(4)?;
                let seconds = self.signed(8)?;
                self.date(seconds, nanoseconds);
            }
            (NOTEPACK, 1, true) => {
                self.take(1)?;
                self.put("null");
            }
            (NOTEPACK, 8, true) => {
                let milliseconds = self.signed(8)?;
                self.moment(Some(milliseconds));
            }
            (NOTEPACK, _, false) => {
                let bytes = self.take(length)?;
                self.attach(bytes);
            }
            _ => return Err(Unfit("it has an extension that Socket.IO has not".into())),
        }
        Ok(())
    }

    fn date(&mut self, seconds: i64, nanoseconds: u64) {
        let parts = i64::try_from(nanoseconds / 1_000_000).unwrap_or(0);
        self.moment(seconds.checked_mul(1000).and_then(|whole| whole.checked_add(parts)));
    }

    /// A moment, in milliseconds since 1970; `null` if it is too far away for a text.
    fn moment(&mut self, milliseconds: Option<i64>) {
        let begin = self.json.len();
        let moment = milliseconds.map(Timestamp::from_millis);
        let is_written = moment.is_some_and(|moment| write!(self.json, "\"{moment}\"").is_ok());
        if !is_written {
            self.json.truncate(begin);
            self.put("null");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(bytes: &[u8]) -> Result<String, String> {
        decode(bytes, 1_000_000).map(|it| it.json.get().to_owned()).map_err(|it| it.0.into_owned())
    }

    #[test]
    fn every_type_has_its_json() {
        for (bytes, wanted) in [
            (&b"\xc0"[..], "null"),
            (b"\xc2", "false"),
            (b"\xc3", "true"),
            (b"\x7f", "127"),
            (b"\xe0", "-32"),
            (b"\xcc\xff", "255"),
            (b"\xcd\x01\x00", "256"),
            (b"\xce\xff\xff\xff\xff", "4294967295"),
            (b"\xcf\x00\x20\x00\x00\x00\x00\x00\x01", "9007199254740993"),
            (b"\xd0\x80", "-128"),
            (b"\xd1\x80\x00", "-32768"),
            (b"\xd2\x80\x00\x00\x00", "-2147483648"),
            (b"\xd3\xff\xdf\xff\xff\xff\xff\xff\xff", "-9007199254740993"),
            (b"\xca\x3f\x00\x00\x00", "0.5"),
            (b"\xcb\x40\x09\x21\xfb\x54\x44\x2d\x18", "3.141592653589793"),
            (b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", "null"),
            (b"\xcb\xff\xf0\x00\x00\x00\x00\x00\x00", "null"),
            (b"\xa3a\"\n", r#""a\"\n""#),
            (b"\xd9\x02\xc3\xa9", "\"é\""),
            (b"\xa1\xff", "\"\u{fffd}\""),
            (b"\x92\x01\x90", "[1,[]]"),
            (b"\x82\xa1b\x01\xa1a\x80", r#"{"b":1,"a":{}}"#),
            (b"\x81\x07\xc0", r#"{"7":null}"#),
            // Time stamps of 32, 64 and 96 bits, and as older encoders write them.
            (b"\xd6\xff\x65\x53\xf1\x00", r#""2023-11-14T22:13:20.000Z""#),
            (b"\xd7\xff\x01\xab\x3f\x00\x65\x53\xf1\x00", r#""2023-11-14T22:13:20.007Z""#),
            (
                b"\xc7\x0c\xff\x00\x6a\xcf\xc0\xff\xff\xff\xff\xff\xff\xff\xff",
                r#""1969-12-31T23:59:59.007Z""#,
            ),
            (b"\xd7\x00\x00\x00\x01\x8b\xcf\xe5\x68\x07", r#""2023-11-14T22:13:20.007Z""#),
            (b"\xc7\x0c\xff\x00\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff", "null"),
            (b"\xd4\x00\x00", "null"),
        ] {
            assert_eq!(text(bytes).as_deref(), Ok(wanted), "{bytes:02x?}");
        }
    }

    #[test]
    fn binary_values_become_attachments() {
        let bytes = b"\x92\xc4\x02\x00\xff\x81\xa1x\xc7\x01\x00\x07";
        let decoded = decode(bytes, 1000).ok().unwrap();
        let wanted = r#"[{"_placeholder":true,"num":0},{"x":{"_placeholder":true,"num":1}}]"#;
        assert_eq!(decoded.json.get(), wanted);
        let wanted = [&b"\x00\xff"[..], b"\x07"].map(Bytes::from_static);
        assert_eq!(*decoded.attachments, wanted);
    }

    #[test]
    fn what_is_too_much_is_refused_before_it_is_made() {
        // An array that says that four billion items follow.
        assert_eq!(text(b"\xdd\xff\xff\xff\xff\xc0").unwrap_err(), "its end is missing");
        assert_eq!(text(b"\xdb\xff\xff\xff\xffa").unwrap_err(), "its end is missing");
        assert!(text(&[0x91; 10_000]).unwrap_err().contains("deeper"));
        let nils = [&b"\xdc\xff\xff"[..], &vec![0xc0; 65_535]].concat();
        assert!(decode(&nils, 1000).is_err() && decode(&nils, 400_000).is_ok());
        for wrong in [&b"\xc1"[..], b"\xc0\xc0", b"\x81\x90\xc0", b"\xd4\x05\x00", b""] {
            assert!(text(wrong).is_err(), "{wrong:02x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_json_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(text) = text(&bytes) {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
            }
        }
    }
}
