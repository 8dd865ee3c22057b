//! The documents that are made from the code say what the code says.
//!
//! `UPDATE_DOCUMENTS=1 cargo test --test documents` writes them anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{fs, path::PathBuf};

use roomcast::config;

const BEGIN: &str = "<!-- config:begin -->\n";
const END: &str = "<!-- config:end -->";

/// Asserts that the file is as it should be, or makes it so.
fn hold(name: &str, wanted: impl FnOnce(&str) -> String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name);
    let found = fs::read_to_string(&path).unwrap_or_default();
    let wanted = wanted(&found);
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        fs::write(&path, wanted).unwrap();
        return;
    }
    assert!(
        found == wanted,
        "{name} is out of date: UPDATE_DOCUMENTS=1 cargo test --test documents"
    );
}

#[test]
fn the_example_has_every_setting() {
    hold(".env.example", |_| config::env_example());
}

#[test]
fn the_readme_has_every_setting() {
    hold("README.md", |readme| {
        let (before, rest) =
            readme.split_once(BEGIN).expect("README.md has a line <!-- config:begin -->");
        let (_, after) = rest.split_once(END).expect("README.md has a line <!-- config:end -->");
        format!("{before}{BEGIN}{}{END}{after}", config::markdown_table())
    });
}
