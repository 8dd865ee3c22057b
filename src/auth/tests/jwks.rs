//! The issuer's keys over real HTTP. The age of the fetched keys is an argument.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{StatusCode, header::LOCATION},
    response::IntoResponse,
};
use futures_util::{FutureExt, future::join_all, stream};
use jsonwebtoken::jwk::Jwk;
use tokio::{net::TcpListener, time::Instant};

use super::{
    issuer::{Answer, Issuer, json_answer, set_of, status},
    *,
};
use crate::auth::jwks::{INTERVAL, MAX_AGE, MAX_BACK_OFF, MAX_BYTES, MAX_KEYS};

/// The public half of a key as a JWK, with the fields of `more` added or replaced.
fn jwk(name: &str, algorithm: Algorithm, more: Value) -> Value {
    let jwk = Jwk::from_encoding_key(&private_key(name), algorithm).unwrap();
    let mut jwk = serde_json::to_value(jwk).unwrap();
    jwk.as_object_mut().unwrap().remove("alg");
    let Value::Object(more) = more else { panic!("fields are an object") };
    jwk.as_object_mut().unwrap().extend(more);
    jwk
}

fn rsa(kid: &str) -> Value {
    jwk("rsa.pem", Algorithm::RS256, json!({"kid": kid, "use": "sig"}))
}

fn ec(kid: &str) -> Value {
    jwk("ec-p256.pem", Algorithm::ES256, json!({"kid": kid}))
}

fn by_rsa(kid: &str) -> String {
    sign_as(kid, Algorithm::RS256, &private_key("rsa.pem"), &alice())
}

fn by_ec(kid: &str) -> String {
    sign_as(kid, Algorithm::ES256, &private_key("ec-p256.pem"), &alice())
}

const NOW: Duration = Duration::ZERO;
const ALICE: &str = "alice";

#[tokio::test]
async fn every_kind_of_key_is_found_by_its_id() {
    let issuer = Issuer::publishing(&[
        rsa("r"),
        ec("e"),
        jwk("ec-p384.pem", Algorithm::ES384, json!({"kid": "f", "alg": "ES384"})),
        jwk("ed25519.pem", Algorithm::EdDSA, json!({"kid": "d", "key_ops": ["verify"]})),
    ])
    .await;
    let verifier = issuer.verifier();
    for (kid, algorithm, key) in [
        ("r", Algorithm::RS256, "rsa.pem"),
        ("r", Algorithm::PS512, "rsa.pem"),
        ("e", Algorithm::ES256, "ec-p256.pem"),
        ("f", Algorithm::ES384, "ec-p384.pem"),
        ("d", Algorithm::EdDSA, "ed25519.pem"),
    ] {
        let token = sign_as(kid, algorithm, &private_key(key), &alice());
        assert_eq!(verifier.verify(NOW, &token).await.as_deref(), Ok(ALICE), "{algorithm:?}");
    }
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn the_key_fixes_the_algorithm() {
    let issuer = Issuer::publishing(&[
        rsa("r"),
        jwk("rsa.pem", Algorithm::RS256, json!({"kid": "only", "alg": "RS512"})),
        ec("e"),
    ])
    .await;
    let verifier = issuer.verifier();
    let only = |algorithm| sign_as("only", algorithm, &private_key("rsa.pem"), &alice());
    assert_eq!(verifier.verify(NOW, &only(Algorithm::RS512)).await.as_deref(), Ok(ALICE));
    assert_eq!(verifier.verify(NOW, &only(Algorithm::RS256)).await, Err(AuthError::Algorithm));
    assert_eq!(verifier.verify(NOW, &by_ec("r")).await, Err(AuthError::Algorithm));
    assert_eq!(verifier.verify(NOW, &by_rsa("e")).await, Err(AuthError::Algorithm));
    let other = private_key("ec-p256-other.pem");
    let other = sign_as("e", Algorithm::ES256, &other, &alice());
    assert_eq!(verifier.verify(NOW, &other).await, Err(AuthError::Signature));
    let public = EncodingKey::from_secret(fixture("rsa.pub.pem").as_bytes());
    let confused = sign_as("r", Algorithm::HS256, &public, &alice());
    assert_eq!(verifier.verify(NOW, &confused).await, Err(AuthError::Algorithm));
}

#[tokio::test]
async fn keys_that_are_not_for_signatures_are_left_out() {
    let secret_key = json!({"kty": "oct", "kid": "s", "alg": "HS256",
        "k": "YSBzZWNyZXQgb2YgdGhlIHRlc3RzLCAzMiBieXRlcyBhbmQgbW9yZQ"});
    let rsa_with = |more| jwk("rsa.pem", Algorithm::RS256, more);
    let mut short = rsa("short");
    short["n"] = json!(short["n"].as_str().unwrap()[..172]);
    let mut off_curve = ec("off-curve");
    off_curve["x"] = off_curve["y"].clone();
    let mut wrong_curve = ec("wrong-curve");
    wrong_curve["crv"] = json!("P-384");
    let issuer = Issuer::publishing(&[
        secret_key,
        rsa_with(json!({"kid": "enc", "use": "enc"})),
        rsa_with(json!({"kid": "ops", "key_ops": ["encrypt"]})),
        rsa_with(json!({"kid": "oaep", "alg": "RSA-OAEP"})),
        rsa_with(json!({"kid": "hs", "alg": "HS256"})),
        short,
        off_curve,
        wrong_curve,
        json!({"kty": "AKP", "kid": "new"}),
        json!("no key at all"),
        rsa("r"),
    ])
    .await;
    let verifier = issuer.verifier();
    assert_eq!(verifier.verify(NOW, &by_rsa("r")).await.as_deref(), Ok(ALICE));
    for kid in ["enc", "ops", "oaep", "hs", "short", "new"] {
        assert_eq!(verifier.verify(NOW, &by_rsa(kid)).await, Err(AuthError::UnknownKey), "{kid}");
    }
    for kid in ["off-curve", "wrong-curve"] {
        assert_eq!(verifier.verify(NOW, &by_ec(kid)).await, Err(AuthError::UnknownKey), "{kid}");
    }
    let symmetric = sign_as("s", Algorithm::HS256, &secret(), &alice());
    assert_eq!(verifier.verify(NOW, &symmetric).await, Err(AuthError::Algorithm));
}

#[tokio::test]
async fn a_token_without_a_key_id_needs_exactly_one_key_that_fits() {
    let issuer = Issuer::publishing(&[rsa("r"), ec("e")]).await;
    let verifier = issuer.verifier();
    let unnamed = sign(Algorithm::ES256, &private_key("ec-p256.pem"), &alice());
    assert_eq!(verifier.verify(NOW, &unnamed).await.as_deref(), Ok(ALICE));
    let none_fits = sign(Algorithm::EdDSA, &private_key("ed25519.pem"), &alice());
    assert_eq!(verifier.verify(NOW, &none_fits).await, Err(AuthError::KeyNotNamed));
    let other = jwk("ec-p256-other.pem", Algorithm::ES256, json!({"kid": "o"}));
    issuer.now_publishes(&[ec("e"), other]);
    let two = issuer.verifier();
    assert_eq!(two.verify(NOW, &unnamed).await, Err(AuthError::KeyNotNamed));
    assert_eq!(two.verify(NOW, &by_ec("e")).await.as_deref(), Ok(ALICE));
}

#[tokio::test]
async fn a_new_key_is_learned_when_a_token_names_it() {
    let issuer = Issuer::publishing(&[rsa("old")]).await;
    let verifier = issuer.verifier();
    assert_eq!(verifier.verify(NOW, &by_rsa("old")).await.as_deref(), Ok(ALICE));
    issuer.now_publishes(&[ec("new")]);
    assert_eq!(verifier.verify(INTERVAL, &by_ec("new")).await.as_deref(), Ok(ALICE));
    assert_eq!(verifier.verify(INTERVAL, &by_rsa("old")).await, Err(AuthError::UnknownKey));
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn a_flood_of_unknown_keys_asks_once_in_an_interval() {
    let issuer = Issuer::publishing(&[rsa("r")]).await;
    let verifier = issuer.verifier();
    assert_eq!(verifier.verify(NOW, &by_rsa("r")).await.as_deref(), Ok(ALICE));
    let flood = |after| {
        let verifier = &verifier;
        join_all((0..50).map(move |n| async move {
            verifier.verify(after, &by_ec(&format!("unknown-{n}"))).await
        }))
    };
    let just_before = INTERVAL.checked_sub(Duration::from_millis(1)).unwrap();
    for (after, asked) in [(NOW, 1), (just_before, 1), (INTERVAL, 2), (INTERVAL, 2)] {
        let refused = flood(after).await;
        assert!(refused.iter().all(|outcome| *outcome == Err(AuthError::UnknownKey)));
        assert_eq!(issuer.asked(), asked, "after {after:?}");
    }
    assert_eq!(verifier.verify(INTERVAL, &by_rsa("r")).await.as_deref(), Ok(ALICE));
}

#[tokio::test]
async fn concurrent_verifications_share_one_fetch() {
    let issuer = Issuer::publishing(&[rsa("r")]).await;
    let verifier = issuer.verifier();
    let token = by_rsa("r");
    let closed = issuer.gate.write().await;
    let all = join_all((0..20).map(|_| verifier.verify(NOW, &token)));
    // `join` polls in order: all of them wait before the gate opens.
    let (outcomes, ()) = tokio::join!(all, async { drop(closed) });
    assert!(outcomes.iter().all(|outcome| outcome.as_deref() == Ok(ALICE)));
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_does_not_end_the_fetch() {
    let mut issuer = Issuer::publishing(&[rsa("r")]).await;
    let verifier = issuer.verifier();
    let token = by_rsa("r");
    let closed = issuer.gate.clone().write_owned().await;
    assert!(verifier.verify(NOW, &token).now_or_never().is_none(), "it waits, and is dropped");
    issuer.asked.wait_for(|asked| *asked == 1).await.unwrap();
    drop(closed);
    assert_eq!(verifier.verify(NOW, &token).await.as_deref(), Ok(ALICE));
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn an_old_set_is_used_while_a_newer_one_is_fetched() {
    let mut issuer = Issuer::publishing(&[rsa("old")]).await;
    let verifier = issuer.verifier();
    let young = MAX_AGE.checked_sub(Duration::from_millis(1)).unwrap();
    for after in [NOW, young] {
        assert_eq!(verifier.verify(after, &by_rsa("old")).await.as_deref(), Ok(ALICE));
    }
    assert_eq!(issuer.asked(), 1);
    issuer.now_publishes(&[ec("new")]);
    let closed = issuer.gate.clone().write_owned().await;
    // The issuer does not answer, and no verification waits for it.
    for _ in 0..3 {
        let outcome = verifier.verify(MAX_AGE, &by_rsa("old")).now_or_never();
        assert_eq!(outcome.unwrap().as_deref(), Ok(ALICE));
    }
    issuer.asked.wait_for(|asked| *asked == 2).await.unwrap();
    drop(closed);
    assert_eq!(verifier.verify(MAX_AGE, &by_ec("new")).await.as_deref(), Ok(ALICE));
    assert_eq!(verifier.verify(MAX_AGE, &by_rsa("old")).await, Err(AuthError::UnknownKey));
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn the_last_good_set_serves_while_the_issuer_is_down() {
    let issuer = Issuer::publishing(&[rsa("r")]).await;
    let verifier = issuer.verifier();
    assert_eq!(verifier.verify(NOW, &by_rsa("r")).await.as_deref(), Ok(ALICE));
    for failure in [
        status(StatusCode::INTERNAL_SERVER_ERROR),
        json_answer(&json!({"keys": []})),
        json_answer(&json!({"error": "maintenance"})),
        Arc::new(|| "<html>".into_response()),
    ] {
        issuer.now_answers(failure);
        let later = MAX_AGE * u32::try_from(issuer.asked()).unwrap();
        let unknown = verifier.verify(later, &by_ec("unknown")).await;
        assert_eq!(unknown, Err(AuthError::UnknownKey));
        assert_eq!(verifier.verify(later, &by_rsa("r")).await.as_deref(), Ok(ALICE));
    }
    assert_eq!(issuer.asked(), 5);
    issuer.server.abort();
    let later = MAX_AGE * 10;
    assert_eq!(verifier.verify(later, &by_ec("unknown")).await, Err(AuthError::UnknownKey));
    assert_eq!(verifier.verify(later, &by_rsa("r")).await.as_deref(), Ok(ALICE));
}

#[tokio::test]
async fn failures_are_retried_later_and_later_until_one_succeeds() {
    let issuer = Issuer::publishing(&[]).await;
    issuer.now_answers(status(StatusCode::SERVICE_UNAVAILABLE));
    let verifier = issuer.verifier();
    let token = by_rsa("r");
    let mut after = NOW;
    for (count, wait) in [10, 20, 40, 60, 60, 60].into_iter().enumerate() {
        let error = verifier.verify(after, &token).await.unwrap_err();
        assert!(error.is_unavailable());
        assert_eq!(issuer.asked(), count + 1);
        after += Duration::from_secs(wait);
        let too_early = after.checked_sub(Duration::from_millis(1)).unwrap();
        assert_eq!(verifier.verify(too_early, &token).await, Err(AuthError::Unavailable));
        assert_eq!(issuer.asked(), count + 1, "within {wait} s");
    }
    issuer.now_publishes(&[rsa("r")]);
    assert_eq!(verifier.verify(after, &token).await.as_deref(), Ok(ALICE));
    // Good again: the back-off starts anew.
    issuer.now_answers(status(StatusCode::SERVICE_UNAVAILABLE));
    for step in 1..=2 {
        let outcome = verifier.verify(after + INTERVAL * step, &by_ec("e")).await;
        assert_eq!(outcome, Err(AuthError::UnknownKey));
    }
    assert_eq!(issuer.asked(), 9);
    assert_eq!(MAX_BACK_OFF, Duration::from_mins(1));
}

#[tokio::test]
async fn an_answer_is_bounded_in_bytes_keys_and_redirects() {
    let redirect_target = Issuer::publishing(&[rsa("r")]).await;
    let target = redirect_target.url.clone();
    let padded = |bytes: usize| {
        let document = json!({"keys": [rsa("r")], "padding": ""}).to_string();
        let padding = " ".repeat(bytes - document.len());
        move || document.clone() + &padding
    };
    let (fits, exceeds) = (padded(MAX_BYTES), padded(MAX_BYTES + 1));
    let streamed = exceeds.clone();
    let answers: [(&str, bool, Answer); 6] = [
        ("the greatest size", true, Arc::new(move || fits().into_response())),
        ("a byte more", false, Arc::new(move || exceeds().into_response())),
        (
            "a byte more, without a length",
            false,
            Arc::new(move || {
                let chunks = stream::iter([Ok::<_, std::io::Error>(streamed())]);
                Body::from_stream(chunks).into_response()
            }),
        ),
        ("the greatest number of keys", true, set_of(&vec![rsa("r"); MAX_KEYS])),
        ("a key more", false, set_of(&vec![rsa("r"); MAX_KEYS + 1])),
        (
            "a redirect",
            false,
            Arc::new(move || (StatusCode::FOUND, [(LOCATION, target.clone())]).into_response()),
        ),
    ];
    for (what, accepted, answer) in answers {
        let issuer = Issuer::publishing(&[]).await;
        issuer.now_answers(answer);
        let outcome = issuer.verifier().verify(NOW, &by_rsa("r")).await;
        let expected = if accepted { Ok(ALICE.to_owned()) } else { Err(AuthError::Unavailable) };
        assert_eq!(outcome, expected, "{what}");
    }
    assert_eq!(redirect_target.asked(), 0);
}

/// The clock is paused; it advances to the timeout once every task waits.
#[tokio::test(start_paused = true)]
async fn an_issuer_that_does_not_answer_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let verifier = verifier(KeySource::JwksUrl(url));
    let began = Instant::now();
    assert_eq!(refusal(&verifier, &by_rsa("r")).await, AuthError::Unavailable);
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(5) && waited < Duration::from_secs(6), "{waited:?}");
}

#[tokio::test]
async fn the_keys_can_be_fetched_beforehand() {
    let issuer = Issuer::publishing(&[rsa("r")]).await;
    let verifier = issuer.verifier();
    verifier.verifier.prepare().await.unwrap();
    verifier.verifier.prepare().await.unwrap();
    assert_eq!(issuer.asked(), 1);
    assert_eq!(verifier.verify(NOW, &by_rsa("r")).await.as_deref(), Ok(ALICE));
    issuer.now_answers(status(StatusCode::NOT_FOUND));
    let unprepared = issuer.verifier().verifier;
    assert_eq!(unprepared.prepare().await, Err(AuthError::Unavailable));
}

#[test]
fn an_address_is_http_or_https() {
    let of = |url: &str| Verifier::new(settings(KeySource::JwksUrl(url.into())));
    assert!(of("https://issuer.example/.well-known/jwks.json").is_ok());
    for wrong in ["", "issuer.example/jwks", "/jwks.json", "ftp://issuer.example/", "file:///jwks"]
    {
        let error = of(wrong).unwrap_err();
        assert!(error.to_string().starts_with("the JWKS address is not usable"), "{error}");
    }
}
