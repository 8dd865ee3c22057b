//! `roomcast hash-password`.

use std::io::{self, IsTerminal, Write};

use crate::config::PasswordHash;

/// Reads a password, one line, from standard input. Returns its hash, or the message to print before exit
/// code 1.
pub(super) fn hash_password() -> Result<String, String> {
    let input = io::stdin();
    if input.is_terminal() {
        // On standard error, so that standard output holds the hash alone.
        eprint!("Password (shown as you type): ");
        // The prompt is optional: a failed flush does not matter.
        let _unseen = io::stderr().flush();
    }
    let mut line = String::new();
    input.read_line(&mut line).map_err(|error| format!("the password cannot be read: {error}"))?;
    let password = line.strip_suffix('\n').unwrap_or(&line);
    let password = password.strip_suffix('\r').unwrap_or(password);
    PasswordHash::make(password).map_err(|error| {
        format!("{error}: give it by the standard input, as in  printf %s 'the password' | roomcast hash-password")
    })
}
