//! How deep JSON may be.
//!
//! The server keeps payloads as text, so depth costs it nothing. But recipients parse them, and many parsers
//! use one stack frame per level.

use crate::protocol::payload::work;

/// How many levels of nested arrays and objects a payload may have.
pub const MAX_DEPTH: usize = 64;

/// Whether this JSON text has more than `max` levels of arrays and objects. One pass, no allocation; the
/// answer means nothing for invalid JSON.
pub fn is_deeper_than(max: usize, text: &str) -> bool {
    work::reads(text.len());
    // Most payloads have too few brackets to need a full scan.
    if text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count() <= max {
        return false;
    }
    let mut depth = 0_usize;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next().filter(|byte| *byte != b'"') {
                    if byte == b'\\' {
                        bytes.next();
                    }
                }
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::protocol::payload::arbitrary::any_json;

    fn nested(levels: usize) -> String {
        format!("{}{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn the_limit_itself_is_allowed() {
        assert!(!is_deeper_than(64, &nested(64)));
        assert!(is_deeper_than(64, &nested(65)));
        assert!(is_deeper_than(64, &"{\"a\":".repeat(100_000)));
    }

    #[test]
    fn neighbours_and_strings_are_no_levels() {
        let wide = format!("[{}]", vec!["{\"a\":[]}"; 1000].join(","));
        assert!(!is_deeper_than(3, &wide));
        assert!(is_deeper_than(2, &wide));
        let text = json!(["[{[{[{ \" \\ [{[{[{", {"[[[[\"[[[[": "\\\"[[["}]).to_string();
        assert!(!is_deeper_than(2, &text), "{text}");
    }

    fn depth(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    proptest! {
        #[test]
        fn the_depth_is_that_of_the_value(value in any_json(), max in 0..10_usize) {
            prop_assert_eq!(is_deeper_than(max, &value.to_string()), depth(&value) > max);
        }
    }
}
