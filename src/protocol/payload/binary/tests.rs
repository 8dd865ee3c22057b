use proptest::prelude::*;
use serde_json::{Value, json};

use super::{super::arbitrary::json_of, *};

#[test]
fn placeholders_as_clients_write_them_are_found_without_reading_all() {
    let text = r#"{"a":[{"_placeholder":true,"num":1},"\"{"],"b":{"_placeholder":true,"num":0}}"#;
    let found = usual_placeholders(text).unwrap();
    let texts = found.iter().map(|found| (&text[found.place.clone()], found.num));
    assert_eq!(
        texts.collect::<Vec<_>>(),
        [
            (r#"{"_placeholder":true,"num":1}"#, Some(1)),
            (r#"{"_placeholder":true,"num":0}"#, Some(0)),
        ]
    );
    assert_eq!(found, any_placeholders(text).unwrap());
    assert_eq!(usual_placeholders(r#"{"a":"\n"}"#), Some(Vec::new()));
}

#[test]
fn all_others_are_read_level_by_level() {
    for text in [
        r#"{"\u005fplaceholder":true,"num":0}"#,
        r#"{"_placeholder":true,"num":-1}"#,
        r#"{"_placeholder":true,"num":0,"x":1}"#,
        r#"{"_placeholder":false,"num":0}"#,
        r#"{ "_placeholder":true,"num":0}"#,
        r#"{"num":0,"_placeholder":true}"#,
        r#"{"my_placeholder":true,"num":0}"#,
        r#""a _placeholder""#,
        r#"["{","_placeholder"]"#,
        r#"{"_placeholder":true,"num":{"_placeholder":true,"num":0}}"#,
    ] {
        assert_eq!(usual_placeholders(text), None, "{text}");
    }
}

fn any_payload() -> impl Strategy<Value = Value> {
    let texts = prop_oneof![".{0,4}", "[{}\\\"]{0,3}_placeholder[\":tru]{0,3}"];
    let leaf = prop_oneof![
        any::<i32>().prop_map(Value::from),
        texts.prop_map(Value::from),
        (0..99_u8).prop_map(|num| json!({"_placeholder": true, "num": num})),
    ];
    json_of(leaf, "(num|_placeholder|.{0,3})")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn both_ways_find_the_same(value in any_payload()) {
        let text = value.to_string();
        if let Some(found) = usual_placeholders(&text) {
            prop_assert_eq!(found, any_placeholders(&text).unwrap());
        }
    }
}
