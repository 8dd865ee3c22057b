//! A token that a cookie brings.

use std::sync::Arc;

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, header},
};

use crate::config::Config;

/// Puts the token of the cookie `JWT_COOKIE` into the `Authorization` header, where that brings none: so it
/// counts after all others, and nothing else of the cookies is kept.
pub fn token_of_cookie(config: Arc<Config>) -> impl Fn(Request) -> Request + Clone {
    move |mut request| {
        if let Some(name) = &config.jwt_cookie
            && let Some(token) = cookie(request.headers(), name)
            && !has_bearer(request.headers())
            && let Ok(value) = HeaderValue::from_str(&format!("Bearer {token}"))
        {
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        request
    }
}

fn has_bearer(headers: &HeaderMap) -> bool {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = header.and_then(|value| value.split_once(' '));
    bearer.is_some_and(|(scheme, token)| {
        scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()
    })
}

/// The value of the cookie of this name, if it has one.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let headers = headers.get_all(header::COOKIE).iter();
    let mut pairs =
        headers.filter_map(|header| header.to_str().ok()).flat_map(|all| all.split(';'));
    let value = pairs.find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches('"')).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn the_cookie_counts_where_the_header_brings_no_token() {
        let config = Config { jwt_cookie: Some("t".into()), ..Config::default() };
        let bring = token_of_cookie(Arc::new(config));
        for (cookies, given, wanted) in [
            (&["a=1; t=x.y.z"][..], None, Some("Bearer x.y.z")),
            (&["a=1", "t=\"x\""], None, Some("Bearer x")),
            (&["t=x"], Some("Basic abc"), Some("Bearer x")),
            (&["t=x"], Some("Bearer "), Some("Bearer x")),
            (&["t=x"], Some("bearer own"), Some("bearer own")),
            (&["t2=x; T=y; t="], None, None),
            (&[], Some("Basic abc"), Some("Basic abc")),
        ] {
            let mut request = Request::builder().uri("/socket.io/");
            for cookie in cookies {
                request = request.header("cookie", *cookie);
            }
            if let Some(given) = given {
                request = request.header("authorization", given);
            }
            let request = bring(request.body(Body::empty()).unwrap());
            let header = request.headers().get("authorization");
            assert_eq!(header.map(|value| value.to_str().unwrap()), wanted, "{cookies:?}");
        }
    }
}
