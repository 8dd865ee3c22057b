//! The playground: one page to try the server with, embedded in the binary.
//!
//! The page is kept as plain HTML, CSS and JavaScript, and assembled at start. A browser loads nothing else:
//! the content security policy allows only these texts, named by their hashes.

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;

const PAGE: &str = include_str!("index.html");

/// The line of the page that the style sheet replaces, and the style sheet.
const STYLE: (&str, &str) =
    ("<link rel=\"stylesheet\" href=\"style.css\">", include_str!("style.css"));

/// The lines of the page that the scripts replace, and the scripts.
const SCRIPTS: [(&str, &str); 5] = [
    ("<script src=\"socket.js\"></script>", include_str!("socket.js")),
    ("<script src=\"feed.js\"></script>", include_str!("feed.js")),
    ("<script src=\"session.js\"></script>", include_str!("session.js")),
    ("<script src=\"backend.js\"></script>", include_str!("backend.js")),
    ("<script src=\"app.js\"></script>", include_str!("app.js")),
];

/// The page, ready to be sent.
#[derive(Clone)]
pub(super) struct Playground {
    html: Bytes,
    policy: HeaderValue,
}

impl Playground {
    /// Puts the page together, for a server whose Socket.IO is at this path.
    pub(super) fn new(socket_path: &str) -> Self {
        let mut html = PAGE.replacen(STYLE.0, &format!("<style>{}</style>", STYLE.1), 1);
        let path = |path| format!("data-socket-path=\"{path}\"");
        html = html.replacen(&path("/socket.io"), &path(socket_path), 1);
        for (line, script) in SCRIPTS {
            html = html.replacen(line, &format!("<script>{script}</script>"), 1);
        }
        let scripts = SCRIPTS.map(|(_, script)| source(script)).join(" ");
        let style = source(STYLE.1);
        // 'self' covers the websocket to this very server, whatever the scheme.
        let policy = format!(
            "default-src 'none'; script-src {scripts}; style-src {style}; connect-src 'self'; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        #[allow(clippy::expect_used, reason = "the text above and base64 are visible ASCII")]
        let policy = HeaderValue::from_str(&policy).expect("a policy is visible ASCII");
        Self { html: html.into(), policy }
    }

    /// The answer to a request for the page.
    pub(super) fn answer(&self) -> Response {
        let headers: [(HeaderName, HeaderValue); 4] = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (header::CONTENT_SECURITY_POLICY, self.policy.clone()),
        ];
        (headers, self.html.clone()).into_response()
    }
}

/// The policy's source expression for an inline text.
fn source(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(digest(&SHA256, text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html() -> String {
        String::from_utf8(Playground::new("/rt").html.to_vec()).unwrap()
    }

    #[test]
    fn every_part_is_in_the_page_and_none_is_loaded() {
        let html = html();
        for (line, text) in SCRIPTS.into_iter().chain([STYLE]) {
            assert_eq!(PAGE.matches(line).count(), 1, "{line}");
            assert!(html.contains(text) && !html.contains(line), "{line}");
        }
        for foreign in ["<script src", "rel=\"stylesheet\"", "<img", "<iframe", "https://"] {
            assert!(!html.contains(foreign), "{foreign}");
        }
        assert!(!STYLE.1.contains("@import") && !STYLE.1.contains("url("));
    }

    #[test]
    fn what_the_policy_forbids_is_not_in_the_page() {
        for (_, script) in SCRIPTS {
            // A browser would end the script there, and hash another text.
            assert!(!script.contains("</script") && !script.contains("<!--"));
            for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!script.contains(way), "{way}");
            }
        }
        assert!(!PAGE.contains(" style=\""));
        let handlers = PAGE.split_whitespace().filter(|word| {
            word.strip_prefix("on").is_some_and(|rest| {
                rest.split_once('=').is_some_and(|(name, _)| {
                    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase())
                })
            })
        });
        assert_eq!(handlers.collect::<Vec<_>>(), Vec::<&str>::new());
    }

    #[test]
    fn a_browser_sees_the_text_that_was_hashed() {
        for (name, text) in SCRIPTS.into_iter().chain([STYLE]) {
            // HTML turns these into line feeds, and NUL into something else.
            assert!(!text.contains(['\r', '\0']), "{name}");
        }
    }
}
