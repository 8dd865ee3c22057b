//! A token explained to a person: whether it is valid, why not, and what it says.

use std::{
    fmt::Write,
    time::{Duration, SystemTime},
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::Instant;

use super::{AuthError, Verifier, claims::numeric_date, token::Parts};

/// Whether `token` is valid with the configured keys, and what it says: `Ok` if it is valid, `Err`
/// if not. The text shows header and claims, never the signature, so that it does not serve as a
/// token.
pub async fn explain(verifier: &Verifier, token: &str) -> Result<String, String> {
    explain_at(verifier, token, SystemTime::now()).await
}

pub(super) async fn explain_at(
    verifier: &Verifier,
    token: &str,
    now: SystemTime,
) -> Result<String, String> {
    let verdict = verifier.verify_at(token, now, Instant::now()).await;
    let contents = contents(token, now).unwrap_or_default();
    match verdict {
        Ok(identity) => {
            let rooms = if identity.rooms.restricted() {
                "only those of the claim `rooms`, and not the whole namespace"
            } else {
                "all, and the whole namespace"
            };
            Ok(printable(&format!("valid\nuser: {}\nrooms: {rooms}{contents}", identity.user_id)))
        }
        Err(error) => Err(printable(&format!("not valid: {error}{contents}"))),
    }
}

/// What an unverified token says, as far as it can be read; each line after a line break.
fn contents(token: &str, now: SystemTime) -> Result<String, AuthError> {
    let parts = Parts::of(token)?;
    let mut text = format!("\nalgorithm: {}", parts.header.alg);
    text.push_str("\nkey id: ");
    text.push_str(parts.header.kid.as_deref().unwrap_or("none"));
    let Ok(claims) = parts.unverified_claims() else { return Ok(text) };
    match numeric_date(&claims, "exp") {
        Ok(Some(at)) => {
            let _infallible = write!(text, "\nexpires: {}", date_in_words(at, now));
        }
        Ok(None) => text.push_str("\nexpires: never"),
        Err(_) => {}
    }
    if let Ok(claims) = serde_json::to_string_pretty(&claims) {
        text.push_str("\nclaims: ");
        text.push_str(&claims);
    }
    Ok(text)
}

fn date_in_words(at: SystemTime, now: SystemTime) -> String {
    let distance = match at.duration_since(now) {
        Ok(ahead) => format!("in {}", in_words(ahead)),
        Err(past) => format!("{} ago", in_words(past.duration())),
    };
    // A date beyond the year 9999 has no RFC 3339 form.
    let date = i64::try_from(
        at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since_1970| since_1970.as_secs()),
    )
    .ok()
    .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
    .and_then(|date| date.format(&Rfc3339).ok());
    date.map_or_else(|| distance.clone(), |date| format!("{date} ({distance})"))
}

/// A duration in its greatest unit, rounded down.
fn in_words(duration: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let seconds = duration.as_secs();
    UNITS.into_iter().find(|(size, _)| seconds >= *size).map_or_else(
        || "less than a second".to_owned(),
        |(size, unit)| {
            let count = seconds / size;
            format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
        },
    )
}

/// Escapes control characters, which could steer the terminal that shows the token.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escape = c.is_control() && c != '\n';
            let escaped = escape.then(|| c.escape_unicode()).into_iter().flatten();
            escaped.chain((!escape).then_some(c))
        })
        .collect()
}
