//! The documents that are made from the code say what the code says.
//!
//! `UPDATE_DOCUMENTS=1 cargo test --test documents` writes them anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{fs, path::PathBuf};

use clap::CommandFactory;
use roomcast::{config, gateways::asyncapi, server::cli::Cli};

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
fn the_configuration_page_has_every_setting() {
    hold("docs/configuration.md", |page| {
        let (before, rest) =
            page.split_once(BEGIN).expect("docs/configuration.md has a line <!-- config:begin -->");
        let (_, after) =
            rest.split_once(END).expect("docs/configuration.md has a line <!-- config:end -->");
        format!("{before}{BEGIN}{}{END}{after}", config::markdown_tables())
    });
}

/// The help of a command and of those below it, as the binary prints it on a terminal of 100 columns.
fn manual(command: &mut clap::Command, path: &str) -> String {
    let help = command.render_long_help().to_string();
    let mut text = format!("\n## `{path}`\n\n```text\n{}\n```\n", help.trim_end());
    for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help") {
        let path = format!("{path} {}", below.get_name());
        text.push_str(&manual(below, &path));
    }
    text
}

#[test]
fn the_command_line_is_described() {
    hold("docs/cli.md", |_| {
        let mut command = Cli::command().term_width(100);
        command.build();
        let text = manual(&mut command, "roomcast").replace(" \n", "\n");
        format!("# The command line\n\nWhat `roomcast help` prints, command by command.\n{text}")
    });
}

#[test]
fn typescript_has_every_event() {
    hold("types/index.d.ts", |_| asyncapi::declaration());
}

#[test]
fn the_reference_has_every_event_and_code() {
    hold("docs/reference.md", |_| asyncapi::reference_page());
}

/// What the image sets itself, and what means nothing inside a container.
const NOT_PASSED_ON: [&str; 3] = ["PORT", "HOST", "CLIENT_BUNDLE_DIR"];

#[test]
fn the_compose_file_passes_on_every_setting() {
    let compose = fs::read_to_string("docker-compose.yml").unwrap();
    let passed = |name: &str| compose.contains(&format!("      - {name}\n"));
    for (name, _) in config::Config::default().summary() {
        assert!(passed(name) != NOT_PASSED_ON.contains(&name), "{name} in docker-compose.yml");
    }
}
