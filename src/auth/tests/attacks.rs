//! Tokens that must be refused, and the error messages.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::*;

fn encoded(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

/// `token` with one of its three parts replaced.
fn with_part(token: &str, index: usize, replacement: &str) -> String {
    let mut parts: Vec<&str> = token.split('.').collect();
    parts[index] = replacement;
    parts.join(".")
}

#[tokio::test]
async fn an_unsigned_token_is_refused() {
    let verifiers = [with_secret(), with_public_key("rsa.pub.pem")];
    for verifier in &verifiers {
        for alg in ["none", "None", "NONE", "", "nOnE"] {
            let unsigned = format!("{}.{}.", encoded(&json!({"alg": alg})), encoded(&alice()));
            assert_eq!(refusal(verifier, &unsigned).await, AuthError::Algorithm, "{alg:?}");
        }
        let signed = sign(Algorithm::HS256, &secret(), &alice());
        let header = encoded(&json!({"alg": "none", "typ": "JWT"}));
        let relabelled = with_part(&signed, 0, &header);
        assert_eq!(refusal(verifier, &relabelled).await, AuthError::Algorithm);
    }
    let stripped = with_part(&sign(Algorithm::HS256, &secret(), &alice()), 2, "");
    assert_eq!(refusal(&with_secret(), &stripped).await, AuthError::Signature);
}

#[tokio::test]
async fn a_public_key_is_no_secret() {
    for name in ["rsa.pub.pem", "ec-p256.pub.pem", "ed25519.pub.pem"] {
        let pem = fixture(name);
        for text in [pem.as_str(), pem.trim_end()] {
            for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                let key = EncodingKey::from_secret(text.as_bytes());
                let token = sign(algorithm, &key, &alice());
                let error = refusal(&with_public_key(name), &token).await;
                assert_eq!(error, AuthError::Algorithm, "{name} {algorithm:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_algorithm_of_another_key_is_refused() {
    let rsa = sign(Algorithm::RS256, &private_key("rsa.pem"), &alice());
    let ec = sign(Algorithm::ES256, &private_key("ec-p256.pem"), &alice());
    assert_eq!(refusal(&with_secret(), &rsa).await, AuthError::Algorithm);
    assert_eq!(refusal(&with_public_key("ec-p256.pub.pem"), &rsa).await, AuthError::Algorithm);
    assert_eq!(refusal(&with_public_key("ec-p384.pub.pem"), &ec).await, AuthError::Algorithm);
    assert_eq!(refusal(&with_public_key("ed25519.pub.pem"), &ec).await, AuthError::Algorithm);
    for alg in ["ES512", "ES256K", "RSA1_5", "hs256", "HS256 "] {
        let token = with_part(
            &sign(Algorithm::HS256, &secret(), &alice()),
            0,
            &encoded(&json!({"alg": alg})),
        );
        assert_eq!(refusal(&with_secret(), &token).await, AuthError::Algorithm, "{alg:?}");
    }
}

#[tokio::test]
async fn a_signature_of_another_key_or_text_is_refused() {
    let forged = EncodingKey::from_secret(b"another secret, also of 32 bytes.");
    let forged = sign(Algorithm::HS256, &forged, &alice());
    assert_eq!(refusal(&with_secret(), &forged).await, AuthError::Signature);
    let other = sign(Algorithm::ES256, &private_key("ec-p256-other.pem"), &alice());
    assert_eq!(refusal(&with_public_key("ec-p256.pub.pem"), &other).await, AuthError::Signature);

    let mallory = encoded(&json!({"sub": "mallory", "exp": in_an_hour()}));
    for (algorithm, key, verifier) in [
        (Algorithm::HS256, secret(), with_secret()),
        (Algorithm::RS256, private_key("rsa.pem"), with_public_key("rsa.pub.pem")),
        (Algorithm::PS512, private_key("rsa.pem"), with_public_key("rsa.pub.pem")),
        (Algorithm::ES256, private_key("ec-p256.pem"), with_public_key("ec-p256.pub.pem")),
        (Algorithm::EdDSA, private_key("ed25519.pem"), with_public_key("ed25519.pub.pem")),
    ] {
        let token = sign(algorithm, &key, &alice());
        let tampered = with_part(&token, 1, &mallory);
        assert_eq!(refusal(&verifier, &tampered).await, AuthError::Signature, "{algorithm:?}");
        let zeros = URL_SAFE_NO_PAD.encode([0; 64]);
        let zeroed = with_part(&token, 2, &zeros);
        assert_eq!(refusal(&verifier, &zeroed).await, AuthError::Signature, "{algorithm:?}");
    }
}

#[tokio::test]
async fn a_header_cannot_bring_its_own_key_or_rules() {
    let attacker = EncodingKey::from_secret(b"attacker");
    let header = Header {
        jku: Some("http://127.0.0.1:9/jwks".into()),
        kid: Some("../../etc/passwd".into()),
        jwk: Some(jsonwebtoken::jwk::Jwk::from_encoding_key(&attacker, Algorithm::HS256).unwrap()),
        ..Header::new(Algorithm::HS256)
    };
    let token = encode(&header, &alice(), &attacker).unwrap();
    assert_eq!(refusal(&with_secret(), &token).await, AuthError::Signature);

    let header = Header { crit: Some(vec!["b64".into()]), ..Header::new(Algorithm::HS256) };
    let critical = encode(&header, &alice(), &secret()).unwrap();
    assert_eq!(refusal(&with_secret(), &critical).await, AuthError::Critical);
}

#[tokio::test]
async fn claims_are_judged_after_the_signature() {
    let expired = json!({"sub": "alice", "exp": 1});
    let good = sign(Algorithm::HS256, &secret(), &expired);
    assert_eq!(refusal(&with_secret(), &good).await.to_string(), "token expired");
    let forged = sign(Algorithm::HS256, &EncodingKey::from_secret(b"x"), &expired);
    assert_eq!(refusal(&with_secret(), &forged).await.to_string(), "token signature is not valid");
}

#[tokio::test]
async fn each_wrong_claim_is_named() {
    let strict = Settings {
        issuer: Some("issuer".into()),
        audience: Some("rooms".into()),
        ..settings(KeySource::Secret(SECRET.into()))
    };
    let strict = Verifier::new(strict).unwrap();
    let good = json!({"sub": "alice", "exp": in_an_hour(), "iss": "issuer", "aud": ["x", "rooms"]});
    assert!(strict.verify(&sign(Algorithm::HS256, &secret(), &good)).await.is_ok());
    for (claim, value, message) in [
        ("iss", json!("other"), "token has the wrong issuer"),
        ("aud", json!("other"), "token has the wrong audience"),
        ("exp", json!(1), "token expired"),
        ("exp", json!("1"), "token claim `exp` must be a time in seconds since 1970"),
        ("nbf", json!(in_an_hour()), "token is not valid yet"),
        ("sub", json!(""), "token claim `sub` must not be empty"),
        ("sub", json!("a\u{1}"), "token claim `sub` must not contain control characters"),
        ("sub", json!(null), "token names no user: it needs a claim `sub` (or `id`)"),
        (
            "rooms",
            json!({"a": 1}),
            "token claim `rooms` must be a string or an array of strings, or an object with such values in join, read and send",
        ),
    ] {
        let mut claims = good.clone();
        claims[claim] = value;
        let token = sign(Algorithm::HS256, &secret(), &claims);
        assert_eq!(refusal(&strict, &token).await.to_string(), message);
    }
}

#[tokio::test]
async fn garbage_is_refused() {
    let good = sign(Algorithm::HS256, &secret(), &alice());
    let body = encoded(&alice());
    let doubled = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","alg":"none"}"#);
    let garbage = [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        "a.b.c".into(),
        "null".into(),
        "[object Object]".into(),
        "\u{0}\u{0}.é.\n".into(),
        format!("{good}."),
        format!("{good}.{body}"),
        format!(" {good}"),
        format!("{good}\n"),
        format!("{good}=="),
        with_part(&good, 0, &doubled),
        with_part(&good, 0, &encoded(&json!([]))),
        with_part(&good, 0, &encoded(&json!({"typ": "JWT"}))),
        with_part(&good, 0, &encoded(&json!({"alg": "HS256", "kid": 7}))),
        good.replace('.', ". "),
    ];
    for token in garbage {
        assert_eq!(refusal(&with_secret(), &token).await, AuthError::Malformed, "{token:?}");
    }
    // The signature is good, but the content is no set of claims.
    for claims in [json!([1]), json!("alice"), json!(null), json!(7)] {
        let token = sign(Algorithm::HS256, &secret(), &claims);
        assert_eq!(refusal(&with_secret(), &token).await, AuthError::Malformed, "{claims}");
    }
}

#[tokio::test]
async fn a_huge_token_is_refused_by_its_size() {
    let of_length = |length: usize| "x".repeat(length);
    assert_eq!(refusal(&with_secret(), &of_length(1_000_000)).await, AuthError::TooLarge);
    assert_eq!(refusal(&with_secret(), &of_length(16 * 1024 + 1)).await, AuthError::TooLarge);
    assert_eq!(refusal(&with_secret(), &of_length(16 * 1024)).await, AuthError::Malformed);
    let signed = json!({"sub": "alice", "padding": of_length(20_000)});
    let signed = sign(Algorithm::HS256, &secret(), &signed);
    assert_eq!(
        refusal(&with_secret(), &signed).await.to_string(),
        "token is larger than 16384 bytes"
    );
}

#[tokio::test]
async fn without_a_key_no_token_is_believed() {
    let off = Verifier::new(off()).unwrap();
    let token = sign(Algorithm::HS256, &EncodingKey::from_secret(b""), &alice());
    assert_eq!(refusal(&off, &token).await, AuthError::UnknownKey);
}
