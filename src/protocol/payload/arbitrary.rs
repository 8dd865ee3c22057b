//! Any JSON, for tests.

use proptest::prelude::*;
use serde_json::Value;

/// Any JSON value.
pub fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![any::<i32>().prop_map(Value::from), ".{0,8}".prop_map(Value::from)];
    json_of(leaf, ".{0,4}")
}

/// Lists of such values, and objects of them with such keys (a regular expression), in each other.
pub fn json_of(
    leaf: impl Strategy<Value = Value> + 'static,
    keys: &'static str,
) -> impl Strategy<Value = Value> {
    leaf.prop_recursive(8, 64, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(keys, inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
