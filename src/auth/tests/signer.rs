//! Signatures, held to the vector that the libraries of Standard Webhooks share.

use crate::{auth::signer::Signer, config::Config};

fn signer(secret: &str) -> Option<Signer> {
    let sources = crate::config::Sources {
        env: vec![("HANDLER_SECRET".into(), secret.into())],
        ..Default::default()
    };
    Signer::new(&Config::load(sources).unwrap().handler_secret)
}

#[test]
fn a_message_is_signed_as_the_libraries_do() {
    let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    let body = br#"{"test": 2432232314}"#;
    let wanted = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    assert_eq!(signer(secret).unwrap().sign(id, 1_614_265_330, body), wanted);
    let both = signer(&format!("{secret},whsec_YQ==")).unwrap().sign(id, 1_614_265_330, body);
    let (first, second) = both.split_once(' ').unwrap();
    assert_eq!(first, wanted);
    assert!(second.starts_with("v1,") && second != wanted);
    assert!(signer("").is_none());
}
