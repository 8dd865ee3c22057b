//! The operator's password, kept only as a hash.

use std::fmt;

use argon2::{
    Algorithm, Argon2, Params,
    password_hash::{PasswordHasher, PasswordVerifier, phc},
};

/// A password's hash in one of two forms: argon2 as a PHC string (`$argon2id$v=19$…`), or bcrypt (`$2a$`,
/// `$2b$`, `$2y$`).
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Form);

#[derive(Clone, PartialEq, Eq)]
enum Form {
    Argon2(Box<phc::PasswordHash>),
    Bcrypt(String),
}

/// The text is not a hash that a password can be checked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither an argon2 nor a bcrypt hash")]
pub struct NotAHash;

/// A hash could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MakeError {
    /// There is no password.
    #[error("the password is empty")]
    Empty,
    /// The system gave no randomness, or not enough memory.
    #[error("the hash could not be made: {0}")]
    Hash(argon2::password_hash::Error),
}

impl PasswordHash {
    /// Takes `text` as a hash.
    pub fn parse(text: &str) -> Result<Self, NotAHash> {
        if text.starts_with("$argon2") {
            let hash = argon2_hash(text).ok_or(NotAHash)?;
            return Ok(Self(Form::Argon2(Box::new(hash))));
        }
        // $2x$ marks the hashes of an implementation that got non-ASCII passwords wrong.
        let known = ["$2a$", "$2b$", "$2y$"].iter().any(|version| text.starts_with(version));
        let parts = text.parse::<bcrypt::HashParts>().ok().filter(|parts| {
            known && (bcrypt_cost::LEAST..=bcrypt_cost::MOST).contains(&parts.get_cost())
        });
        parts.map(|_| Self(Form::Bcrypt(text.to_owned()))).ok_or(NotAHash)
    }

    /// An argon2id hash of the password, with a salt of its own, as text.
    pub fn make(password: &str) -> Result<String, MakeError> {
        if password.is_empty() {
            return Err(MakeError::Empty);
        }
        let hash: phc::PasswordHash =
            Argon2::default().hash_password(password.as_bytes()).map_err(MakeError::Hash)?;
        Ok(hash.to_string())
    }

    /// Whether this is the password. By design this takes a good part of a second of CPU time: do not call
    /// it on a thread that others wait for.
    pub fn verify(&self, password: &str) -> bool {
        match &self.0 {
            Form::Argon2(hash) => {
                Argon2::default().verify_password(password.as_bytes(), hash.as_ref()).is_ok()
            }
            Form::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
        }
    }
}

/// The range of costs that bcrypt defines.
mod bcrypt_cost {
    pub(super) const LEAST: u32 = 4;
    pub(super) const MOST: u32 = 31;
}

/// The hash, if it is complete and its parameters can be used.
fn argon2_hash(text: &str) -> Option<phc::PasswordHash> {
    let hash = phc::PasswordHash::new(text).ok()?;
    Algorithm::new(hash.algorithm.as_str()).ok()?;
    Params::try_from(&hash).ok()?;
    (hash.salt.is_some() && hash.hash.is_some()).then_some(hash)
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_hash_knows_its_password() {
        let text = PasswordHash::make("open sesame").unwrap();
        assert!(text.starts_with("$argon2id$v=19$"), "{text}");
        let hash = PasswordHash::parse(&text).unwrap();
        assert!(hash.verify("open sesame"));
        assert!(!hash.verify("open sesame "));
        assert!(!hash.verify(""));
        assert_ne!(text, PasswordHash::make("open sesame").unwrap(), "each has a salt of its own");
        assert_eq!(PasswordHash::make(""), Err(MakeError::Empty));
    }

    #[test]
    fn every_version_of_bcrypt_is_known() {
        let text = bcrypt::hash("changeit", 4).unwrap();
        for version in ["$2a$", "$2b$", "$2y$"] {
            let hash = PasswordHash::parse(&text.replace("$2b$", version)).unwrap();
            assert!(hash.verify("changeit"), "{version}");
            assert!(!hash.verify("Changeit"), "{version}");
        }
        // The example of the official server's documentation.
        let official = "$2b$10$heqvAkYMez.Va6Et2uXInOnkCT6/uQj1brkrbyG3LpopDklcq7ZOS";
        assert!(PasswordHash::parse(official).unwrap().verify("changeit"));
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        let whole = PasswordHash::make("x").unwrap();
        let (without_hash, _) = whole.rsplit_once('$').unwrap();
        for text in [
            "hunter2",
            "",
            "$argon2id$",
            "$argon2id$v=19$m=19456,t=2,p=1",
            without_hash,
            &whole.replace("argon2id", "argon2x"),
            &whole.replace("t=2", "t=0"),
            "$2b$10$tooshort",
            "$2b$03$heqvAkYMez.Va6Et2uXInOnkCT6/uQj1brkrbyG3LpopDklcq7ZOS",
            "$2x$10$heqvAkYMez.Va6Et2uXInOnkCT6/uQj1brkrbyG3LpopDklcq7ZOS",
            "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8",
        ] {
            assert_eq!(PasswordHash::parse(text), Err(NotAHash), "{text}");
        }
    }

    #[test]
    fn a_hash_is_not_printed() {
        assert_eq!(
            format!("{:?}", PasswordHash::parse(&PasswordHash::make("x").unwrap()).unwrap()),
            "[redacted]"
        );
    }
}
