//! The documents that are generated from the table of settings.

use std::fmt::Write as _;

use super::settings::{SETTINGS, Setting};

/// What `.env.example` begins with.
const PREFACE: &str = "\
# Every setting of roomcast with its default. Copy this file to .env and remove the # before what you change.
# The environment wins over .env, .env over the file of --config (TOML, the same names in lower case).
# An empty value counts as unset. Where a setting has two names, the first wins wherever it is given.
# Durations: 500ms, 5s, 10m, 24h, 7d; a bare number is seconds. Sizes: bytes, or 64KB, 1MB, 1GB. Lists: commas.
# In this file put a value with blanks, # or $ between single quotes.
";

/// The text of `.env.example`: every setting, commented out, with its default and what it means.
pub fn env_example() -> String {
    let mut text = PREFACE.to_owned();
    let mut group = "";
    for setting in SETTINGS {
        if setting.group != group {
            group = setting.group;
            push(&mut text, format_args!("\n# --- {group} ---\n"));
        }
        push(&mut text, format_args!("\n# {}{}\n", setting.doc(), also(setting, "")));
        push(&mut text, format_args!("#{}={}\n", setting.name, setting.default));
    }
    text
}

/// The configuration as tables in Markdown, one for each group, for `docs/configuration.md`.
pub fn markdown_tables() -> String {
    let mut text = String::new();
    let mut group = "";
    for setting in SETTINGS {
        if setting.group != group {
            group = setting.group;
            push(
                &mut text,
                format_args!(
                    "\n### {group}\n\n| variable | default | meaning |\n| --- | --- | --- |\n"
                ),
            );
        }
        let default = if setting.default.is_empty() {
            "none".to_owned()
        } else {
            format!("`{}`", setting.default)
        };
        push(
            &mut text,
            format_args!(
                "| `{}` | {default} | {}{} |\n",
                setting.name,
                setting.doc(),
                also(setting, "`")
            ),
        );
    }
    text.push('\n');
    text
}

fn also(setting: &Setting, quote: &str) -> String {
    match setting.aliases {
        [] => String::new(),
        aliases => format!(" Also {quote}{}{quote}.", aliases.join(&format!("{quote}, {quote}"))),
    }
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).unwrap_or_else(|_| unreachable!("a String takes every text"));
}
