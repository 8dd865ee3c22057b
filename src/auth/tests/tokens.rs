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

/// The verdict on a token of alice's, signed with `key`, that names the key `kid`.
async fn verdict(
    verifier: &Verifier,
    algorithm: Algorithm,
    key: &EncodingKey,
    kid: Option<&str>,
) -> Result<(), AuthError> {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    let token = encode(&header, &alice(), key).unwrap();
    verifier.verify(&token).await.map(|_| ())
}

fn several(keys: Vec<(Option<&str>, KeySource)>) -> Verifier {
    let named = |(id, source): (Option<&str>, _)| NamedKey { id: id.map(str::to_owned), source };
    let keys = keys.into_iter().map(named).collect();
    Verifier::new(Settings { keys, ..off() }).unwrap()
}

#[tokio::test]
async fn tokens_of_the_old_key_and_of_the_new_one_are_accepted() {
    use Algorithm::{ES256, HS256, RS256};
    let verifier = several(vec![
        (None, KeySource::Secret("the new secret, 32 bytes and more".into())),
        (None, KeySource::Secret(SECRET.into())),
        (None, KeySource::PublicKeyPem(fixture("ec-p256.pub.pem"))),
    ]);
    let new = EncodingKey::from_secret(b"the new secret, 32 bytes and more");
    let foreign = EncodingKey::from_secret(b"a secret of somebody else, 32 bytes");
    let pem = EncodingKey::from_secret(fixture("ec-p256.pub.pem").as_bytes());
    for kid in [None, Some("whatever")] {
        assert_eq!(verdict(&verifier, HS256, &new, kid).await, Ok(()));
        assert_eq!(verdict(&verifier, HS256, &secret(), kid).await, Ok(()));
        assert_eq!(verdict(&verifier, ES256, &private_key("ec-p256.pem"), kid).await, Ok(()));
        for stranger in [&foreign, &pem] {
            let verdict = verdict(&verifier, HS256, stranger, kid).await;
            assert_eq!(verdict, Err(AuthError::Signature));
        }
        let other = verdict(&verifier, RS256, &private_key("rsa.pem"), kid).await;
        assert_eq!(other, Err(AuthError::Algorithm));
    }
}

#[tokio::test]
async fn the_key_that_a_token_names_is_the_one_that_is_tried() {
    use Algorithm::{ES256, HS256};
    let verifier = several(vec![
        (Some("new"), KeySource::Secret("the new secret, 32 bytes and more".into())),
        (Some("old"), KeySource::Secret(SECRET.into())),
    ]);
    assert_eq!(verdict(&verifier, HS256, &secret(), Some("old")).await, Ok(()));
    assert_eq!(verdict(&verifier, HS256, &secret(), None).await, Ok(()));
    let wrong = verdict(&verifier, HS256, &secret(), Some("new")).await;
    assert_eq!(wrong, Err(AuthError::Signature));
    let unknown = verdict(&verifier, HS256, &secret(), Some("older")).await;
    assert_eq!(unknown, Err(AuthError::UnknownKey));
    let key = private_key("ec-p256.pem");
    let of_another_kind = verdict(&verifier, ES256, &key, Some("new")).await;
    assert_eq!(of_another_kind, Err(AuthError::Algorithm));
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
