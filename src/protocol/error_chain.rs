//! Errors with their causes, as one text.

use std::error::Error;

/// The error with its causes: the text of some libraries' errors says only that something failed.
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
