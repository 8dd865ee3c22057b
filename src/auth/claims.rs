//! What a token with a good signature says: whether it is valid here and now, and its user.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value};

use super::{AuthError, Identity, Issued};
use crate::protocol::{
    names::{RoomName, UserId},
    permissions::{Permissions, Right},
};

/// The greatest number of rooms in the claim `join`.
const MAX_JOIN: usize = 1000;

/// How far an issuer's clock may be ahead, so that a fresh token is not too young for us. `exp` has no
/// leeway: a client let in after it would be disconnected at once.
const NOT_BEFORE_LEEWAY: Duration = Duration::from_secs(30);

/// The claims of a token whose signature was verified.
pub(super) type Claims = Map<String, Value>;

/// What claims are checked against.
#[derive(Debug)]
pub(super) struct Rules {
    /// The `iss` that a token must have.
    pub(super) issuer: Option<String>,
    /// The `aud` that a token must have.
    pub(super) audience: Option<String>,
    /// The rooms that a token without the claim `rooms` permits.
    pub(super) default_rooms: Permissions,
}

/// Checks `claims` at the time `now`, and returns the identity, with no claims in it yet.
pub(super) fn identity(
    claims: &Claims,
    rules: &Rules,
    now: SystemTime,
) -> Result<Identity, AuthError> {
    let Rules { issuer, audience, default_rooms } = rules;
    let expires_at = numeric_date(claims, "exp")?;
    if expires_at.is_some_and(|at| at <= now) {
        return Err(AuthError::Expired);
    }
    if numeric_date(claims, "nbf")?.is_some_and(|at| at > now + NOT_BEFORE_LEEWAY) {
        return Err(AuthError::NotYetValid);
    }
    if let Some(issuer) = issuer
        && claims.get("iss").and_then(Value::as_str) != Some(issuer.as_str())
    {
        return Err(AuthError::Issuer);
    }
    if let Some(audience) = audience
        && !claims.get("aud").is_some_and(|claim| names_audience(claim, audience))
    {
        return Err(AuthError::Audience);
    }
    Ok(Identity {
        user_id: user_id(claims)?,
        client_name: client_name(claims),
        expires_at,
        rooms: match claims.get("rooms") {
            Some(claim) => permissions(claim)?,
            None => default_rooms.clone(),
        },
        join: join(claims.get("join"))?,
        issued: Issued {
            jti: claims.get("jti").and_then(token_id),
            // What is no time counts as none, and so as older than any.
            at: numeric_date(claims, "iat").ok().flatten(),
        },
        claims: Claims::new(),
    })
}

/// The rooms that a `rooms` claim, or a backend, permits: an array of patterns or a single one, for all rights; or an
/// object with some for each.
///
/// # Errors
/// If it is of another shape.
pub fn permissions(claim: &Value) -> Result<Permissions, AuthError> {
    let wrong = || {
        AuthError::claim(
            "rooms",
            "must be a string or an array of strings, or an object with such values in join, read and send",
        )
    };
    let made = match claim {
        Value::Object(rights) => {
            let of = |right: Right| rights.get(right.as_str()).map_or(Some(Vec::new()), strings);
            let known = |name: &String| Right::ALL.iter().any(|right| right.as_str() == name);
            let [Some(join), Some(read), Some(send)] = Right::ALL.map(of) else {
                return Err(wrong());
            };
            if !rights.keys().all(known) {
                return Err(wrong());
            }
            Permissions::rights([join, read, send])
        }
        claim => Permissions::patterns(strings(claim).ok_or_else(wrong)?),
    };
    made.map_err(|error| AuthError::claim("rooms", error.to_string()))
}

/// The `join` claim: an array of rooms or a single one.
fn join(claim: Option<&Value>) -> Result<Vec<RoomName>, AuthError> {
    let Some(claim) = claim else { return Ok(Vec::new()) };
    let wrong = |problem: String| AuthError::claim("join", problem);
    let names = strings(claim)
        .ok_or_else(|| wrong("must be a string or an array of strings".to_owned()))?;
    if names.len() > MAX_JOIN {
        return Err(wrong(format!("must have at most {MAX_JOIN} rooms")));
    }
    let rooms = names.into_iter().map(RoomName::parse).collect::<Result<_, _>>();
    rooms.map_err(|error| wrong(format!("must contain valid room names: one {error}")))
}

fn strings(claim: &Value) -> Option<Vec<&str>> {
    match claim {
        Value::String(one) => Some(vec![one]),
        Value::Array(several) => several.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// The time in a claim, which is in seconds since 1970.
pub(super) fn numeric_date(
    claims: &Claims,
    claim: &'static str,
) -> Result<Option<SystemTime>, AuthError> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    value
        .as_f64()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .and_then(|since_1970| UNIX_EPOCH.checked_add(since_1970))
        .map(Some)
        .ok_or_else(|| AuthError::claim(claim, "must be a time in seconds since 1970"))
}

fn token_id(claim: &Value) -> Option<Arc<str>> {
    match claim {
        Value::String(id) => Some(id.as_str().into()),
        Value::Number(id) => Some(id.to_string().into()),
        _ => None,
    }
}

fn names_audience(claim: &Value, audience: &str) -> bool {
    match claim {
        Value::String(one) => one == audience,
        Value::Array(several) => several.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    }
}

fn user_id(claims: &Claims) -> Result<UserId, AuthError> {
    let present = |claim| claims.get(claim).filter(|value| !value.is_null());
    let (claim, value) = present("sub")
        .map(|value| ("sub", value))
        .or_else(|| present("id").map(|value| ("id", value)))
        .ok_or(AuthError::NoSubject)?;
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if !number.is_f64() => number.to_string(),
        _ => return Err(AuthError::claim(claim, "must be a string or a whole number")),
    };
    UserId::parse(&text).map_err(|error| AuthError::claim(claim, error.to_string()))
}

/// The claim `name`, if it is a name: some issuers put an object there, which names no client.
fn client_name(claims: &Claims) -> Option<String> {
    claims.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::protocol::names::RoomName;

    const NOW: u64 = 1_800_000_000;

    fn judge(claims: Value) -> Result<Identity, AuthError> {
        judge_for(claims, None, None)
    }

    fn judge_for(
        claims: Value,
        issuer: Option<&str>,
        audience: Option<&str>,
    ) -> Result<Identity, AuthError> {
        let Value::Object(claims) = claims else { panic!("claims are an object") };
        let rules = Rules {
            issuer: issuer.map(str::to_owned),
            audience: audience.map(str::to_owned),
            default_rooms: Permissions::everything(),
        };
        identity(&claims, &rules, UNIX_EPOCH + Duration::from_secs(NOW))
    }

    fn message(claims: Value) -> String {
        judge(claims).unwrap_err().to_string()
    }

    #[test]
    fn a_token_holds_until_it_expires() {
        let identity = judge(json!({"sub": "a", "exp": NOW + 1})).unwrap();
        assert_eq!(identity.expires_at, Some(UNIX_EPOCH + Duration::from_secs(NOW + 1)));
        assert_eq!(judge(json!({"sub": "a", "exp": NOW})).unwrap_err(), AuthError::Expired);
        assert_eq!(judge(json!({"sub": "a", "exp": 0})).unwrap_err(), AuthError::Expired);
        assert_eq!(judge(json!({"sub": "a"})).unwrap().expires_at, None);
        let half = json!({"sub": "a", "exp": 1_800_000_000.5});
        assert_eq!(
            judge(half).unwrap().expires_at,
            Some(UNIX_EPOCH + Duration::from_millis(NOW * 1000 + 500))
        );
    }

    #[test]
    fn a_token_may_be_younger_than_our_clock_by_the_leeway() {
        assert!(judge(json!({"sub": "a", "nbf": NOW + 30})).is_ok());
        assert_eq!(
            judge(json!({"sub": "a", "nbf": NOW + 31})).unwrap_err(),
            AuthError::NotYetValid
        );
        assert!(judge(json!({"sub": "a", "iat": NOW + 9999})).is_ok());
    }

    #[test]
    fn a_time_is_a_number_of_seconds() {
        for wrong in [json!("soon"), json!("1900000000"), json!(null), json!(-1), json!(1e300)] {
            for claim in ["exp", "nbf"] {
                assert_eq!(
                    message(json!({"sub": "a", claim: wrong})),
                    format!("token claim `{claim}` must be a time in seconds since 1970"),
                    "{wrong}"
                );
            }
        }
    }

    #[test]
    fn issuer_and_audience_are_required_where_they_are_set() {
        let issued = |iss: Value| judge_for(json!({"sub": "a", "iss": iss}), Some("me"), None);
        assert!(issued(json!("me")).is_ok());
        for wrong in [json!("you"), json!("me "), json!(["me"]), json!(null), json!("")] {
            assert_eq!(issued(wrong.clone()).unwrap_err(), AuthError::Issuer, "{wrong}");
        }
        let meant = |aud: Value| judge_for(json!({"sub": "a", "aud": aud}), None, Some("us"));
        assert!(meant(json!("us")).is_ok() && meant(json!(["them", "us"])).is_ok());
        for wrong in [json!("them"), json!([]), json!(["them", 7]), json!(null), json!({"us": 1})] {
            assert_eq!(meant(wrong.clone()).unwrap_err(), AuthError::Audience, "{wrong}");
        }
        let neither = json!({"sub": "a"});
        assert_eq!(judge_for(neither.clone(), Some("me"), None), Err(AuthError::Issuer));
        assert_eq!(judge_for(neither, None, Some("us")), Err(AuthError::Audience));
        assert!(judge(json!({"sub": "a", "iss": "any", "aud": ["any"]})).is_ok());
    }

    #[test]
    fn the_user_is_the_subject_or_else_the_id() {
        let user = |claims: Value| judge(claims).unwrap().user_id.to_string();
        assert_eq!(user(json!({"sub": "alice", "id": "bob"})), "alice");
        assert_eq!(user(json!({"id": "bob"})), "bob");
        assert_eq!(user(json!({"sub": null, "id": "bob"})), "bob");
        assert_eq!(user(json!({"sub": 42})), "42");
        assert_eq!(user(json!({"id": -7})), "-7");
        assert_eq!(judge(json!({"name": "x"})).unwrap_err(), AuthError::NoSubject);
    }

    #[test]
    fn a_subject_is_a_name() {
        assert_eq!(message(json!({"sub": "", "id": "b"})), "token claim `sub` must not be empty");
        assert_eq!(
            message(json!({"sub": "a\u{0}b"})),
            "token claim `sub` must not contain control characters"
        );
        assert_eq!(
            message(json!({"id": "x".repeat(201)})),
            "token claim `id` must be at most 200 characters long"
        );
        for wrong in [json!(true), json!(["a"]), json!({"a": 1}), json!(1.5), json!(1e30)] {
            assert_eq!(
                message(json!({"sub": wrong})),
                "token claim `sub` must be a string or a whole number",
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_name_is_taken_where_it_is_one() {
        let name = |name: Value| judge(json!({"sub": "a", "name": name})).unwrap().client_name;
        assert_eq!(name(json!("Alice")).as_deref(), Some("Alice"));
        for none in [json!(null), json!(""), json!(7), json!({"first": "Alice"})] {
            assert_eq!(name(none.clone()), None, "{none}");
        }
    }

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).unwrap()
    }

    #[test]
    fn the_rooms_claim_is_a_string_or_strings() {
        let of = |claim: Value| permissions(&claim);
        let allows = |of: &Permissions, name: &str| of.allows(Right::Send, &room(name));
        assert!(allows(&of(json!("a*")).unwrap(), "ab"));
        let two = of(json!(["a", "b*"])).unwrap();
        assert!(allows(&two, "a") && allows(&two, "bc") && !allows(&two, "ab"));
        assert!(!allows(&of(json!([])).unwrap(), "a"));
        for wrong in [
            json!(null),
            json!(7),
            json!(true),
            json!({"join": 1}),
            json!({"join": null}),
            json!({"write": ["a"]}),
            json!(["a", 7]),
        ] {
            let message = of(wrong.clone()).unwrap_err().to_string();
            let wanted = "token claim `rooms` must be a string or an array of strings, or an object with such \
                          values in join, read and send";
            assert_eq!(message, wanted, "{wrong}");
        }
        assert!(of(json!(["*"])).unwrap().restricted());
        assert_eq!(
            of(json!(vec!["a"; 1001])).unwrap_err().to_string(),
            "token claim `rooms` must have at most 1000 patterns"
        );
    }

    #[test]
    fn the_rooms_claim_may_name_each_right() {
        let rights = permissions(&json!({"join": ["a"], "send": "a*"})).unwrap();
        let allowed = |name| Right::ALL.map(|right| rights.allows(right, &room(name)));
        assert_eq!(allowed("a"), [true, false, true]);
        assert_eq!(allowed("ab"), [false, false, true]);
        assert!(permissions(&json!({})).unwrap().restricted());
    }

    #[test]
    fn without_the_rooms_claim_the_default_counts() {
        let claims = |value: Value| value.as_object().unwrap().clone();
        for default_rooms in [Permissions::everything(), Permissions::nothing()] {
            let rules =
                Rules { issuer: None, audience: None, default_rooms: default_rooms.clone() };
            let of = |value: Value| identity(&claims(value), &rules, UNIX_EPOCH).unwrap().rooms;
            assert_eq!(of(json!({"sub": "a"})), default_rooms);
            assert!(of(json!({"sub": "a", "rooms": "r"})).allows(Right::Join, &room("r")));
        }
    }

    #[test]
    fn the_join_claim_names_rooms() {
        let of = |claim: Value| judge(json!({"sub": "a", "join": claim})).map(|of| of.join);
        assert_eq!(of(json!(["a", "b"])).unwrap(), [room("a"), room("b")]);
        assert_eq!(of(json!("a")).unwrap(), [room("a")]);
        assert_eq!(judge(json!({"sub": "a"})).unwrap().join, []);
        for wrong in [json!(7), json!([""]), json!(["a\u{0}"]), json!(vec!["a"; 1001])] {
            let message = of(wrong.clone()).unwrap_err().to_string();
            assert!(message.starts_with("token claim `join` must "), "{message}");
        }
    }
}
