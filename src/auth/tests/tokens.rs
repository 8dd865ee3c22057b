//! Tokens that are accepted, with every algorithm.

use super::*;
use crate::protocol::{names::RoomName, permissions::Right};

#[tokio::test]
async fn each_algorithm_of_a_secret_is_accepted() {
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let token = sign(algorithm, &secret(), &alice());
        assert_eq!(user(&with_secret().verify(&token).await.unwrap()), "alice", "{algorithm:?}");
    }
}

#[tokio::test]
async fn each_algorithm_of_a_public_key_is_accepted() {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let rsa = [RS256, RS384, RS512, PS256, PS384, PS512];
    let keys: [(&str, &str, &[Algorithm]); 7] = [
        ("rsa.pem", "rsa.pub.pem", &rsa),
        ("rsa.pem", "rsa.pkcs1.pub.pem", &rsa),
        ("rsa.pem", "rsa.cert.pem", &rsa),
        ("ec-p256.pem", "ec-p256.pub.pem", &[ES256]),
        ("ec-p256.pem", "ec-p256.cert.pem", &[ES256]),
        ("ec-p384.pem", "ec-p384.pub.pem", &[ES384]),
        ("ed25519.pem", "ed25519.pub.pem", &[EdDSA]),
    ];
    for (private, public, algorithms) in keys {
        for algorithm in algorithms {
            let token = sign(*algorithm, &private_key(private), &alice());
            let identity = with_public_key(public).verify(&token).await.unwrap();
            assert_eq!(user(&identity), "alice", "{public} {algorithm:?}");
        }
    }
}

#[tokio::test]
async fn a_token_says_who_how_long_and_where() {
    let exp = in_an_hour();
    let claims = json!({"sub": 7, "name": "Alice", "exp": exp, "rooms": ["team-*"]});
    let identity = with_secret().verify(&sign(Algorithm::HS256, &secret(), &claims)).await.unwrap();
    assert_eq!(user(&identity), "7");
    assert_eq!(identity.client_name.as_deref(), Some("Alice"));
    assert_eq!(identity.expires_at, Some(UNIX_EPOCH + std::time::Duration::from_secs(exp)));
    assert!(identity.rooms.restricted());
    assert!(identity.rooms.allows(Right::Join, &RoomName::parse("team-1").unwrap()));
    assert!(!identity.rooms.allows(Right::Join, &RoomName::parse("other").unwrap()));
}

#[test]
fn a_verifier_says_whether_it_is_on() {
    let off = off();
    assert!(!Verifier::new(off).unwrap().enabled());
    assert!(with_secret().enabled());
}

#[test]
fn debug_shows_no_secret() {
    let secret = settings(KeySource::Secret(SECRET.into()));
    let url = "https://user:hunter2@issuer.example/jwks?key=hunter3";
    let jwks = settings(KeySource::JwksUrl(url.into()));
    let shown = format!(
        "{secret:?} {:?} {jwks:?} {:?}",
        Verifier::new(secret.clone()).unwrap(),
        Verifier::new(jwks.clone()).unwrap()
    );
    assert!(!shown.contains("secret of the tests") && !shown.contains("hunter"), "{shown}");
    assert!(shown.contains("https://issuer.example/jwks"), "{shown}");
}

#[tokio::test]
async fn a_verification_may_run_in_any_task() {
    let token = sign(Algorithm::HS256, &secret(), &alice());
    let verifier = with_secret();
    let task = tokio::spawn(async move {
        verifier.prepare().await?;
        verifier.verify(&token).await
    });
    assert_eq!(user(&task.await.unwrap().unwrap()), "alice");
}
