use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::{
    config::PasswordHash,
    gateways::admin_ui::{
        attempts::Attempts,
        login::{Admission, Credentials, Denied, Login},
    },
};

fn cheap(password: &str) -> PasswordHash {
    PasswordHash::parse(&bcrypt::hash(password, 4).unwrap()).unwrap()
}

fn given(username: &str, password: &str) -> Credentials {
    Credentials {
        username: Some(username.to_owned()),
        password: Some(password.to_owned()),
        session: None,
    }
}

fn from(address: &str) -> Option<IpAddr> {
    let address = address.parse::<IpAddr>();
    assert!(address.is_ok());
    address.ok()
}

#[tokio::test]
async fn name_and_password_open_a_session() {
    let login = Login::new("admin".into(), cheap("changeit"));
    let (here, now) = (from("192.0.2.1"), Instant::now());
    for wrong in [given("admin", "wrong"), given("Admin", "changeit"), given("", "")] {
        assert_eq!(login.admit(wrong, here, now).await, Err(Denied::Credentials));
    }
    let half = Credentials { username: Some("admin".into()), ..Credentials::default() };
    assert_eq!(login.admit(half, here, now).await, Err(Denied::Credentials));
    let Ok(Admission::New(session)) = login.admit(given("admin", "changeit"), here, now).await
    else {
        panic!("the right password was refused");
    };
    let back =
        |session: &str| Credentials { session: Some(session.to_owned()), ..Credentials::default() };
    assert_eq!(login.admit(back(&session), from("192.0.2.9"), now).await, Ok(Admission::Known));
    let tomorrow = now + Duration::from_hours(24);
    assert_eq!(login.admit(back(&session), here, tomorrow).await, Err(Denied::Credentials));
    assert_eq!(login.admit(back(&session[1..]), here, now).await, Err(Denied::Credentials));
    assert_eq!(login.admit(back(""), here, now).await, Err(Denied::Credentials));
}

#[tokio::test]
async fn who_fails_too_often_must_wait_even_with_the_right_password() {
    let login = Login::new("admin".into(), cheap("changeit"));
    let (here, now) = (from("192.0.2.1"), Instant::now());
    for _ in 0..5 {
        assert_eq!(login.admit(given("admin", "no"), here, now).await, Err(Denied::Credentials));
    }
    let denied = login.admit(given("admin", "changeit"), here, now).await.unwrap_err();
    assert!(matches!(denied, Denied::TooMany(_)), "{denied:?}");
    assert_eq!(denied.to_string(), "too many failed logins from this address: try again in 1 s");
    let elsewhere = login.admit(given("admin", "changeit"), from("192.0.2.2"), now).await;
    assert!(matches!(elsewhere, Ok(Admission::New(_))));
    // An expired session, as a page brings it after a restart, guesses nothing.
    for _ in 0..9 {
        let ended = Credentials { session: Some("ended".into()), ..Credentials::default() };
        assert_eq!(login.admit(ended, from("192.0.2.3"), now).await, Err(Denied::Credentials));
    }
    assert!(login.admit(given("admin", "changeit"), from("192.0.2.3"), now).await.is_ok());
}

#[test]
fn the_wait_grows_and_ends() {
    let attempts = Attempts::new();
    let address = from("192.0.2.1");
    let mut now = Instant::now();
    for _ in 0..5 {
        assert_eq!(attempts.begin(address, now), Ok(()));
    }
    let mut waits = Vec::new();
    for _ in 0..11 {
        let wait = attempts.begin(address, now).unwrap_err();
        waits.push(wait.as_secs());
        // Trying too early does not make the wait longer.
        assert_eq!(attempts.begin(address, now), Err(wait));
        now += wait;
        assert_eq!(attempts.begin(address, now), Ok(()));
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    attempts.succeeded(address);
    assert_eq!(attempts.begin(address, now), Ok(()));
}

#[test]
fn failures_are_forgotten_after_half_an_hour() {
    let attempts = Attempts::new();
    let (address, now) = (from("192.0.2.1"), Instant::now());
    for _ in 0..5 {
        assert_eq!(attempts.begin(address, now), Ok(()));
    }
    assert!(attempts.begin(address, now).is_err());
    let later = now + Duration::from_mins(30);
    for _ in 0..5 {
        assert_eq!(attempts.begin(address, later), Ok(()));
    }
    assert!(attempts.begin(address, later).is_err());
}

#[test]
fn a_network_of_ipv6_is_one_address() {
    let attempts = Attempts::new();
    let now = Instant::now();
    for host in 1..=5 {
        assert_eq!(attempts.begin(from(&format!("2001:db8::{host}")), now), Ok(()));
    }
    assert!(attempts.begin(from("2001:db8::ffff"), now).is_err());
    assert_eq!(attempts.begin(from("2001:db8:0:1::1"), now), Ok(()));
    for _ in 0..4 {
        assert_eq!(attempts.begin(from("192.0.2.1"), now), Ok(()));
    }
    assert_eq!(attempts.begin(from("::ffff:192.0.2.1"), now), Ok(()));
    assert!(attempts.begin(from("192.0.2.1"), now).is_err());
}
