//! `roomcast token`.

use std::{path::PathBuf, time::Duration};

use clap::Parser;

use super::*;
use crate::auth::{
    command::{TokenArgs, run},
    explain::explain_at,
};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    token: TokenArgs,
}

fn args(line: &[&str]) -> TokenArgs {
    let line = std::iter::once("token").chain(line.iter().copied());
    Cli::try_parse_from(line).unwrap_or_else(|error| panic!("{error}")).token
}

fn key_path(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/keys")
        .join(name)
        .display()
        .to_string()
}

#[tokio::test]
async fn a_token_is_made_with_the_secret_and_is_valid() {
    let settings = Settings {
        issuer: Some("issuer".into()),
        audience: Some("rooms".into()),
        ..settings(KeySource::Secret(SECRET.into()))
    };
    let line = ["--sub", "alice", "--name", "Alice", "--rooms", "team-*,lobby", "--ttl", "2h"];
    let token = run(&args(&line), settings.clone()).await.unwrap();
    let identity = Verifier::new(settings.clone()).unwrap().verify(&token).await.unwrap();
    assert_eq!(user(&identity), "alice");
    assert_eq!(identity.client_name.as_deref(), Some("Alice"));
    assert!(identity.rooms.restricted());
    let left = identity.expires_at.unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(left > Duration::from_secs(7000) && left <= Duration::from_hours(2), "{left:?}");

    let token = run(&args(&["--sub", "alice", "--ttl", "0"]), settings.clone()).await.unwrap();
    let identity = Verifier::new(settings).unwrap().verify(&token).await.unwrap();
    assert_eq!((identity.expires_at, identity.rooms.restricted()), (None, false));
}

#[tokio::test]
async fn a_token_is_signed_with_the_first_secret_or_the_named_one() {
    let named = |id: &str, secret: &str| NamedKey {
        id: Some(id.to_owned()),
        source: KeySource::Secret(secret.to_owned()),
    };
    let keys = vec![named("new", "the new secret, 32 bytes and more"), named("old", SECRET)];
    let configured = Settings { keys, ..off() };
    for (line, kid) in [(&["--sub", "alice"][..], "new"), (&["--sub", "a", "--kid", "old"], "old")]
    {
        // The configured keys are tried on what was made.
        let token = run(&args(line), configured.clone()).await.unwrap();
        assert_eq!(jsonwebtoken::decode_header(&token).unwrap().kid.as_deref(), Some(kid));
    }
}

#[tokio::test]
async fn a_token_is_made_with_each_kind_of_private_key() {
    for (private, public) in [
        ("rsa.pem", "rsa.pub.pem"),
        ("ec-p256.pem", "ec-p256.pub.pem"),
        ("ec-p384.pem", "ec-p384.pub.pem"),
        ("ed25519.pem", "ed25519.pub.pem"),
    ] {
        let path = key_path(private);
        let line = ["--sub", "alice", "--private-key", &path, "--kid", "k"];
        let made = settings(KeySource::PublicKeyPem(fixture(public)));
        let token = run(&args(&line), made).await.unwrap_or_else(|e| panic!("{private}: {e}"));
        let identity = with_public_key(public).verify(&token).await.unwrap();
        assert_eq!(user(&identity), "alice", "{private}");
        assert_eq!(jsonwebtoken::decode_header(&token).unwrap().kid.as_deref(), Some("k"));
    }
}

#[tokio::test]
async fn what_stands_in_the_way_of_a_token_is_said() {
    let failure = async |line: &[&str], settings: Settings| {
        run(&args(line), settings).await.expect_err("a failure")
    };
    let secret = || settings(KeySource::Secret(SECRET.into()));
    assert_eq!(
        failure(&["--sub", "alice"], off()).await,
        "no key to sign with: set JWT_SECRET, or give --private-key FILE"
    );
    assert_eq!(failure(&["--sub", ""], secret()).await, "--sub must not be empty");
    let long = "x".repeat(201);
    assert_eq!(
        failure(&["--sub", "a", "--rooms", &long], secret()).await,
        "--rooms must have patterns of at most 200 characters"
    );
    let many = vec!["x".repeat(100); 200].join(",");
    let error = failure(&["--sub", "a", "--rooms", &many], secret()).await;
    assert!(error.starts_with("the token would be larger than 16384 bytes"), "{error}");
    let missing = failure(&["--sub", "a", "--private-key", "/nowhere"], off()).await;
    assert!(missing.starts_with("--private-key /nowhere: "), "{missing}");
    for unusable in ["ec-p256.sec1.pem", "rsa.pub.pem", "README.md"] {
        let path = key_path(unusable);
        let error = failure(&["--sub", "a", "--private-key", &path], off()).await;
        assert!(error.contains("the private key is not usable"), "{unusable}: {error}");
    }
    let path = key_path("ec-p256-other.pem");
    let configured = settings(KeySource::PublicKeyPem(fixture("ec-p256.pub.pem")));
    let error = failure(&["--sub", "a", "--private-key", &path], configured).await;
    assert!(error.contains("the configured key would refuse the token"), "{error}");
}

#[test]
fn arguments_are_checked() {
    let refused = |line: &[&str]| {
        let line = std::iter::once("token").chain(line.iter().copied());
        Cli::try_parse_from(line).is_err()
    };
    assert!(refused(&[]));
    assert!(refused(&["--check", "x", "--sub", "alice"]));
    for ttl in ["", "h", "1w", "1.5h", "-1h", "99999999999999999999", "36501d", "500ms", "1é"] {
        assert!(refused(&["--sub", "a", &format!("--ttl={ttl}")]), "{ttl}");
    }
    for (ttl, seconds) in [("90", 90), ("30s", 30), ("15m", 900), ("24h", 86400), ("7d", 604_800)] {
        assert_eq!(args(&["--sub", "a", "--ttl", ttl]).ttl, Duration::from_secs(seconds));
    }
    assert_eq!(args(&["--sub", "a"]).ttl, Duration::from_hours(1));
    let shown = format!("{:?}", args(&["--check", "e30.e30.secret"]));
    assert!(!shown.contains("secret"), "{shown}");
}

#[tokio::test]
async fn a_token_is_explained() {
    let now = UNIX_EPOCH + Duration::from_hours(500_000);
    let claims = json!({"sub": "alice", "rooms": ["a*"], "exp": 1_800_007_300});
    let token = sign_as("k1", Algorithm::HS256, &secret(), &claims);
    let told = "algorithm: HS256\nkey id: k1\nexpires: 2027-01-15T10:01:40Z (in 2 hours)\nclaims: {\n  \"sub\": \"alice\",\n  \"rooms\": [\n    \"a*\"\n  ],\n  \"exp\": 1800007300\n}";
    assert_eq!(
        explain_at(&with_secret(), &token, now).await.unwrap(),
        format!(
            "valid\nuser: alice\nrooms: only those of the claim `rooms`, and not the whole namespace\n{told}"
        )
    );
    let another = verifier(KeySource::Secret("another secret of thirty-two bytes".into()));
    assert_eq!(
        explain_at(&another, &token, now).await.unwrap_err(),
        format!("not valid: token signature is not valid\n{told}")
    );
    let late = now + Duration::from_secs(7301 + 3 * 86400);
    let error = explain_at(&with_secret(), &token, late).await.unwrap_err();
    assert!(error.starts_with("not valid: token expired\n"), "{error}");
    assert!(error.contains("expires: 2027-01-15T10:01:40Z (3 days ago)"), "{error}");
    let signature = token.rsplit('.').next().unwrap();
    assert!(!error.contains(signature));
}

#[tokio::test]
async fn an_odd_token_is_explained_as_far_as_it_goes() {
    let forever = sign(Algorithm::HS256, &secret(), &json!({"id": 1, "name": "\u{9b}31m\u{1b}"}));
    let text = run(&args(&["--check", &forever]), settings(KeySource::Secret(SECRET.into())))
        .await
        .unwrap();
    assert!(text.starts_with("valid\nuser: 1\nrooms: all, and the whole namespace\n"), "{text}");
    assert!(text.contains("key id: none\nexpires: never\n"), "{text}");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");

    let huge = sign(Algorithm::HS256, &secret(), &json!({"sub": "a", "exp": 1e15}));
    let text = explain_at(&with_secret(), &huge, UNIX_EPOCH).await.unwrap();
    assert!(text.contains("expires: in 11574074074 days\n"), "{text}");

    let garbage = run(&args(&["--check", "x"]), settings(KeySource::Secret(SECRET.into()))).await;
    assert_eq!(
        garbage.unwrap_err(),
        "not valid: token is not a JWT: three base64url parts of JSON, joined by dots, are expected"
    );
    let off = run(&args(&["--check", "x"]), off()).await.unwrap_err();
    assert!(off.starts_with("no key is configured to check the token with"), "{off}");
}
