//! `roomcast token`: makes tokens and explains them.

use std::{
    fmt,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use super::{
    Grant, KeySource, MAX_TOKEN_BYTES, NamedKey, Settings, SigningKey, Verifier, explain, issue,
};
use crate::protocol::{names::UserId, permissions::Permissions};

/// Make a token, or check one, with the configured keys.
#[derive(Clone, clap::Args)]
pub struct TokenArgs {
    /// The user that the token is for
    #[arg(long, value_name = "USER", required_unless_present = "check")]
    pub sub: Option<String>,
    /// The name of the user's clients
    #[arg(long)]
    pub name: Option<String>,
    /// Patterns of the permitted rooms, separated by commas; `*` stands for any characters [default: everything]
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',')]
    pub rooms: Vec<String>,
    /// How long it is valid: 30s, 15m, 24h, 7d, or seconds; 0 for no expiry
    #[arg(long, default_value = "1h", value_parser = parse_ttl)]
    pub ttl: Duration,
    /// Sign with the private key in this PEM file instead of the configured secret
    #[arg(long, value_name = "FILE")]
    pub private_key: Option<PathBuf>,
    /// The id of the key (kid), as the issuer's JWKS or the list of keys has it
    #[arg(long, value_name = "ID")]
    pub kid: Option<String>,
    /// Check this token, and print its claims
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["sub", "name", "rooms", "ttl", "private_key", "kid"])]
    pub check: Option<String>,
}

impl fmt::Debug for TokenArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenArgs")
            .field("sub", &self.sub)
            .field("check", &self.check.as_ref().map(|_| "[redacted]"))
            .finish_non_exhaustive()
    }
}

/// Runs the command. `Ok` is the text to print; `Err` is a message to print before exiting with code 1. A
/// checked token that is not valid is an `Err`.
pub async fn run(args: &TokenArgs, settings: Settings) -> Result<String, String> {
    if let Some(token) = &args.check {
        if settings.keys.is_empty() {
            return Err("no key is configured to check the token with: \
                        set JWT_SECRET, JWT_PUBLIC_KEY or JWT_JWKS_URL"
                .to_owned());
        }
        let verifier = Verifier::new(settings).map_err(|error| error.to_string())?;
        return explain(&verifier, token.trim()).await;
    }
    make(args, settings).await
}

async fn make(args: &TokenArgs, settings: Settings) -> Result<String, String> {
    let sub = args.sub.as_deref().unwrap_or_default();
    let user_id = UserId::parse(sub).map_err(|error| format!("--sub {error}"))?;
    Permissions::patterns(args.rooms.iter().map(String::as_str))
        .map_err(|error| format!("--rooms {error}"))?;
    let (key, key_id) = signing_key(args, &settings)?;
    let grant = Grant {
        user_id: &user_id,
        name: args.name.as_deref(),
        rooms: (!args.rooms.is_empty()).then_some(&args.rooms),
        ttl: (!args.ttl.is_zero()).then_some(args.ttl),
        issuer: settings.issuer.as_deref(),
        audience: settings.audience.as_deref(),
        key_id: key_id.as_deref(),
    };
    let token = issue(&key, &grant, SystemTime::now()).map_err(|error| error.to_string())?;
    if token.len() > MAX_TOKEN_BYTES {
        return Err(format!(
            "the token would be larger than {MAX_TOKEN_BYTES} bytes, and refused: give fewer or wider --rooms"
        ));
    }
    // A token that this server would refuse is not printed. A JWKS is not tried: its issuer need not be
    // reachable from here.
    let is_fixed = |key: &NamedKey| !matches!(key.source, KeySource::JwksUrl(_));
    if !settings.keys.is_empty() && settings.keys.iter().all(is_fixed) {
        let verifier = Verifier::new(settings).map_err(|error| error.to_string())?;
        verifier.verify(&token).await.map_err(|error| {
            format!("the configured key would refuse the token ({error}): does the --private-key belong to it?")
        })?;
    }
    Ok(token)
}

/// The key to sign with and its id: the given one, else the first of the configured secrets, or the one of the
/// given id.
fn signing_key(
    args: &TokenArgs,
    settings: &Settings,
) -> Result<(SigningKey, Option<String>), String> {
    if let Some(path) = &args.private_key {
        let shown = path.display();
        let pem = std::fs::read_to_string(path)
            .map_err(|error| format!("--private-key {shown}: {error}"))?;
        let key = SigningKey::from_private_pem(&pem)
            .map_err(|error| format!("--private-key {shown}: {error}"))?;
        return Ok((key, args.kid.clone()));
    }
    let secrets = || {
        settings.keys.iter().filter_map(|key| match &key.source {
            KeySource::Secret(secret) => Some((key.id.as_ref(), secret)),
            _ => None,
        })
    };
    let named = secrets().find(|(id, _)| id.is_some() && *id == args.kid.as_ref());
    let Some((id, secret)) = named.or_else(|| secrets().next()) else {
        return Err("no key to sign with: set JWT_SECRET, or give --private-key FILE".into());
    };
    let key = SigningKey::from_secret(secret).map_err(|error| format!("JWT_SECRET: {error}"))?;
    Ok((key, args.kid.as_ref().or(id).cloned()))
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(86400),
        _ => None,
    };
    digits
        .parse::<u64>()
        .ok()
        .zip(unit)
        .and_then(|(count, unit)| count.checked_mul(unit))
        // Beyond that, dates have no common written form any more.
        .filter(|seconds| *seconds <= 100 * 365 * 86400)
        .map(Duration::from_secs)
        .ok_or_else(|| "allowed are 30s, 15m, 24h, 7d, or seconds, up to 36500d".to_owned())
}
