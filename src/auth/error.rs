//! Why a token or a key was refused, in words for people. Tokens and keys are never quoted.

use std::borrow::Cow;

/// The greatest size of a token, in bytes: what Node accepts as all headers of a request together.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Why a token was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The token has more than [`MAX_TOKEN_BYTES`] bytes.
    #[error("token is larger than {MAX_TOKEN_BYTES} bytes")]
    TooLarge,
    /// The text is no signed JWT at all.
    #[error("token is not a JWT: three base64url parts of JSON, joined by dots, are expected")]
    Malformed,
    /// The header names an algorithm that does not belong to the key; `none` is one of them.
    #[error("token is signed with an algorithm that the configured key does not allow")]
    Algorithm,
    /// The header demands an extension to be understood (`crit`), and none is.
    #[error("token has a critical header (crit), and none is supported")]
    Critical,
    /// The key that the header names is neither configured nor among the issuer's.
    #[error("token is signed with a key (kid) that is not known here")]
    UnknownKey,
    /// The header names no key and the issuer has not exactly one that fits.
    #[error(
        "token names no key (kid), and not exactly one of the issuer's keys fits its algorithm"
    )]
    KeyNotNamed,
    /// The signature does not belong to the text and the key.
    #[error("token signature is not valid")]
    Signature,
    /// `exp` is now or in the past.
    #[error("token expired")]
    Expired,
    /// `nbf` is in the future.
    #[error("token is not valid yet")]
    NotYetValid,
    /// `iss` is not the configured issuer.
    #[error("token has the wrong issuer")]
    Issuer,
    /// `aud` does not hold the configured audience.
    #[error("token has the wrong audience")]
    Audience,
    /// Neither `sub` nor `id` names the user.
    #[error("token names no user: it needs a claim `sub` (or `id`)")]
    NoSubject,
    /// A claim has a value that it may not have.
    #[error("token claim `{claim}` {problem}")]
    Claim {
        /// The claim's name.
        claim: &'static str,
        /// What is wrong with it, or what is allowed.
        problem: Cow<'static, str>,
    },
    /// A backend has revoked it.
    #[error("token was revoked")]
    Revoked,
    /// The issuer's keys could never be fetched, so the token cannot be checked.
    #[error("the token issuer's keys cannot be fetched at the moment; try again later")]
    Unavailable,
}

impl AuthError {
    /// Whether the token is not at fault: it may be accepted later.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable)
    }

    /// Whether the token may be made up. A token that is only too old or too new was issued, so its bearer
    /// guesses nothing.
    pub fn may_be_a_guess(&self) -> bool {
        !matches!(self, Self::Unavailable | Self::Expired | Self::NotYetValid | Self::Revoked)
    }

    pub(super) fn claim(claim: &'static str, problem: impl Into<Cow<'static, str>>) -> Self {
        Self::Claim { claim, problem: problem.into() }
    }
}

/// Why a configured key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The secret is empty.
    #[error("the secret is empty: give at least 32 random characters")]
    EmptySecret,
    /// The secret is the text of a public key, with which anyone could sign.
    #[error(
        "the secret is a public key: anyone could sign with it; configure it as JWT_PUBLIC_KEY"
    )]
    PublicSecret,
    /// The text is not PEM, or what it holds cannot be read.
    #[error("the key is not readable PEM: {0}")]
    Pem(&'static str),
    /// A private key stands where a public one belongs.
    #[error("the key is a private key: give the public one (openssl pkey -in KEY -pubout)")]
    Private,
    /// The key is of a kind or size that is not supported.
    #[error(
        "the key is of no supported kind: RSA of 2048 to 8192 bits, EC on P-256 or P-384, or Ed25519"
    )]
    Unsupported,
    /// The JWKS address is not one.
    #[error("the JWKS address is not usable: {0}; an http:// or https:// URL is expected")]
    Url(String),
    /// The HTTP client could not be set up.
    #[error("the HTTP client for the JWKS cannot be set up: {0}")]
    Client(String),
    /// The private key cannot sign.
    #[error(
        "the private key is not usable: PEM in PKCS#8 form (or RSA in PKCS#1) without a passphrase is expected, \
         RSA of 2048 to 8192 bits, EC on P-256 or P-384, or Ed25519; convert others with openssl pkcs8 -topk8 -nocrypt"
    )]
    Signing,
}
