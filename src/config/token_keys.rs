//! The keys that verify tokens: one, or several while one replaces another.
//!
//! Several are a list in JSON (in TOML, a list of its own): `["new", "old"]`, each a text or an object
//! `{"kid": "2026", "key": "…"}` with the id that tokens name. Anything else is one key as it stands, because a
//! secret may have any characters, commas among them.

use serde_json::{Map, Value, json};

use super::{
    types::{REDACTED, Secret},
    value::{Kind, ParseError},
};

/// The most keys of one setting: an unsigned token costs one try each.
const MOST: usize = 10;

/// A key that verifies tokens.
#[derive(Debug, Clone)]
pub struct TokenKey {
    /// The id (`kid`) by which tokens name it, if it has one.
    pub id: Option<String>,
    /// The secret, or the public key in PEM.
    pub text: Secret,
}

impl TokenKey {
    fn unnamed(text: &str) -> Self {
        Self { id: None, text: Secret::new(text) }
    }
}

/// Shared secrets, as they were given.
pub(super) const SECRETS: Kind<Option<Secret>> = Kind::new(
    r#"a text that is not blank, or several as a JSON list such as ["new", "old"]"#,
    |text| {
        several(text)?;
        Ok((!text.is_empty()).then(|| Secret::new(text)))
    },
    |given| match given.as_ref().map_or(0, |given| secrets(given.expose()).len()) {
        0 => String::new(),
        1 => REDACTED.to_owned(),
        several => Value::from(vec![REDACTED; several]).to_string(),
    },
)
.json_list()
.secret();

/// Public keys in PEM, each read from its file where a path was given. Several are a list.
pub(super) const PUBLIC_KEYS: Kind<Option<String>> = Kind::new(
    "a public key in PEM (-----BEGIN PUBLIC KEY-----), the path of a file with one or more, or a JSON list of these",
    |text| {
        if text.is_empty() {
            return Ok(None);
        }
        let Some(list) = several(text)? else {
            let pem = public_pem(text)?;
            at_most(blocks(&pem).count())?;
            return Ok(Some(pem));
        };
        let mut keys = Vec::new();
        for TokenKey { id, text } in list {
            let pem = public_pem(text.expose())?;
            keys.extend(blocks(&pem).map(|block| json!({"kid": id, "key": block})));
        }
        at_most(keys.len())?;
        Ok(Some(Value::from(keys).to_string()))
    },
    |given| given.as_ref().map_or_else(String::new, |given| given.trim_end().replace('\n', "\\n")),
)
.json_list();

/// The secrets in a text that was checked.
pub(super) fn secrets(text: &str) -> Vec<TokenKey> {
    several(text).ok().flatten().unwrap_or_else(|| vec![TokenKey::unnamed(text)])
}

/// The public keys in a text that was checked.
pub(super) fn public_keys(text: &str) -> Vec<TokenKey> {
    let list = several(text).ok().flatten();
    list.unwrap_or_else(|| blocks(text).map(|block| TokenKey::unnamed(&block)).collect())
}

/// The keys of a list; `None` if the text is none.
fn several(text: &str) -> Result<Option<Vec<TokenKey>>, ParseError> {
    let Ok(items) = serde_json::from_str::<Vec<Value>>(text) else { return Ok(None) };
    if !items.first().is_some_and(|item| item.is_string() || item.is_object()) {
        return Ok(None);
    }
    at_most(items.len())?;
    items.into_iter().map(listed).collect::<Result<_, _>>().map(Some)
}

fn at_most(count: usize) -> Result<(), ParseError> {
    if count > MOST {
        return Err(ParseError::Because(format!("there are {count} keys, and {MOST} are allowed")));
    }
    Ok(())
}

/// A key of a list.
fn listed(item: Value) -> Result<TokenKey, ParseError> {
    let not_one = || {
        let why = r#"each key of a list is a text that is not blank, or {"kid": "its id", "key": "the key"}"#;
        ParseError::Because(why.to_owned())
    };
    let filled = |value: Value| match value {
        Value::String(text) if !text.trim().is_empty() => Ok(text),
        _ => Err(not_one()),
    };
    let mut fields = match item {
        Value::Object(fields) => fields,
        text => Map::from_iter([("key".to_owned(), text)]),
    };
    let id = fields.remove("kid").filter(|id| !id.is_null()).map(filled).transpose()?;
    let text = filled(fields.remove("key").unwrap_or_default())?;
    if fields.is_empty() { Ok(TokenKey { id, text: Secret::new(text) }) } else { Err(not_one()) }
}

/// The PEM in a text, or in the file of which it is the path.
fn public_pem(text: &str) -> Result<String, ParseError> {
    let pem = if text.starts_with("-----BEGIN") {
        // In a value of one line, line ends are commonly written as \n.
        text.replace("\\r", "").replace("\\n", "\n")
    } else {
        std::fs::read_to_string(text)
            .map_err(|error| ParseError::Because(format!("the file cannot be read: {error}")))?
    };
    let pem = pem.trim();
    if pem.contains("PRIVATE KEY") {
        let why = "this is a private key: the server needs, and should have, only the public one";
        return Err(ParseError::Because(why.to_owned()));
    }
    if !pem.starts_with("-----BEGIN") || !pem.contains("-----END") {
        return Err(ParseError::Because("there is no PEM in it".to_owned()));
    }
    Ok(format!("{pem}\n"))
}

/// The public keys of a PEM text. With a certificate in it, it stays whole, and a chain is refused later: whoever certifies
/// a key need not issue tokens.
fn blocks(pem: &str) -> impl Iterator<Item = String> {
    const END: &str = "-----END PUBLIC KEY-----";
    let pem = pem.trim();
    let only_keys = pem.matches("-----BEGIN ").count() == pem.matches(END).count();
    let end = if only_keys { END } else { "\0" };
    pem.split_inclusive(end).map(|block| format!("{}\n", block.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Keys = Vec<(Option<String>, String)>;

    fn texts(keys: Vec<TokenKey>) -> Keys {
        keys.into_iter().map(|key| (key.id, key.text.expose().to_owned())).collect()
    }

    fn read_secrets(text: &str) -> Keys {
        texts(secrets((SECRETS.parse)(text).unwrap().unwrap().expose()))
    }

    fn read_public(text: &str) -> Keys {
        texts(public_keys(&(PUBLIC_KEYS.parse)(text).unwrap().unwrap()))
    }

    fn because<T: std::fmt::Debug>(kind: &Kind<T>, text: &str) -> String {
        match (kind.parse)(text) {
            Err(ParseError::Because(why)) => why,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn whatever_is_no_list_is_one_secret() {
        for text in [
            "hunter2",
            "a,b",
            "[a, b]",
            "[1, 2]",
            "[]",
            "[[\"a\"]]",
            "[\"a\", \"b\"",
            "\"a\"",
            "{\"key\": \"a\"}",
            " blanks count ",
        ] {
            assert_eq!(read_secrets(text), [(None, text.to_owned())]);
        }
        assert!((SECRETS.parse)("").unwrap().is_none());
    }

    #[test]
    fn a_list_holds_several_secrets() {
        let two = read_secrets(r#" ["a, with a comma", {"kid": "2025", "key": "b"}] "#);
        assert_eq!(
            two,
            [(None, "a, with a comma".to_owned()), (Some("2025".to_owned()), "b".to_owned())]
        );
        assert_eq!(read_secrets(r#"["only"]"#), [(None, "only".to_owned())]);
        for wrong in [
            r#"["a", 5]"#,
            r#"["a", ""]"#,
            r#"[{"kid": "x"}]"#,
            r#"[{"key": "x", "kid": 5}]"#,
            r#"[{"key": "x", "use": "sig"}]"#,
        ] {
            assert!(because(&SECRETS, wrong).contains("each key of a list"), "{wrong}");
        }
        let eleven = serde_json::to_string(&["a"; 11]).unwrap();
        assert!(because(&SECRETS, &eleven).contains("11 keys"));
    }

    #[test]
    fn shown_secrets_are_their_number() {
        let shown = |text: &str| (SECRETS.show)(&(SECRETS.parse)(text).unwrap());
        assert_eq!(shown("hunter2"), "[redacted]");
        assert_eq!(shown(r#"["hunter2", "hunter3"]"#), r#"["[redacted]","[redacted]"]"#);
        assert_eq!(read_secrets(&shown(r#"["hunter2", "hunter3"]"#)).len(), 2);
    }

    const PEM: &str = "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n";

    #[test]
    fn a_public_key_is_given_as_text_or_as_a_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), PEM).unwrap();
        let path = file.path().to_str().unwrap();
        let one = [(None, PEM.to_owned())];
        assert_eq!(read_public(PEM), one);
        assert_eq!(read_public(&PEM.replace('\n', "\\n")), one);
        assert_eq!(read_public(path), one);
        assert_eq!((PUBLIC_KEYS.show)(&(PUBLIC_KEYS.parse)(PEM).unwrap()).lines().count(), 1);

        let private = "-----BEGIN RSA PRIVATE KEY-----\n-----END RSA PRIVATE KEY-----";
        std::fs::write(file.path(), private).unwrap();
        assert!(because(&PUBLIC_KEYS, path).contains("private key"));
        assert!(because(&PUBLIC_KEYS, "/nowhere/key.pem").contains("cannot be read"));
    }

    #[test]
    fn several_public_keys_are_a_list_or_one_file() {
        let other = PEM.replace("MCow", "MFkw");
        assert_eq!(
            read_public(&format!("{PEM}\n{other}")),
            [(None, PEM.to_owned()), (None, other.clone())]
        );
        let list = json!([{"kid": "new", "key": PEM}, other.replace('\n', "\\n")]).to_string();
        let two = [(Some("new".to_owned()), PEM.to_owned()), (None, other)];
        assert_eq!(read_public(&list), two);
        let shown = (PUBLIC_KEYS.show)(&(PUBLIC_KEYS.parse)(&list).unwrap());
        assert_eq!(read_public(&shown), two);
        assert!(because(&PUBLIC_KEYS, &PEM.repeat(11)).contains("11 keys"));
    }

    #[test]
    fn a_chain_of_certificates_stays_whole() {
        let chain = PEM.replace("PUBLIC KEY", "CERTIFICATE").repeat(2);
        assert_eq!(read_public(&chain).len(), 1);
        assert_eq!(read_public(&format!("{PEM}{chain}")).len(), 1);
    }
}
