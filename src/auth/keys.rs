//! Keys that verify tokens. Each key fixes its algorithms, whatever a token's header says.

use aws_lc_rs::{
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
        RsaPublicKeyComponents, VerificationAlgorithm,
    },
};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, Validation, decode,
    errors::ErrorKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde_json::{Map, Value};

use super::{AuthError, KeyError};

const HMAC: &[Algorithm] = &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// A key with the algorithms that it may verify.
// `DecodingKey` redacts itself.
#[derive(Debug, Clone)]
pub(super) struct VerifyingKey {
    key: DecodingKey,
    algorithms: Vec<Algorithm>,
}

impl VerifyingKey {
    /// A shared secret, for HMAC.
    pub(super) fn from_secret(secret: &str) -> Result<Self, KeyError> {
        if secret.is_empty() {
            return Err(KeyError::EmptySecret);
        }
        if secret.contains("-----BEGIN")
            && ["PUBLIC KEY-----", "CERTIFICATE-----"].iter().any(|kind| secret.contains(kind))
        {
            return Err(KeyError::PublicSecret);
        }
        Ok(Self { key: DecodingKey::from_secret(secret.as_bytes()), algorithms: HMAC.to_vec() })
    }

    /// A public key or a certificate in PEM. Environment files cannot hold line breaks, so the two
    /// characters `\n` count as one. Of a certificate only the key is used: its dates and its issuer are
    /// not checked.
    pub(super) fn from_public_pem(pem: &str) -> Result<Self, KeyError> {
        let pem = unescape(pem);
        if pem.contains("PRIVATE KEY-----") {
            return Err(KeyError::Private);
        }
        match pem.matches("-----BEGIN ").count() {
            0 => return Err(KeyError::Pem("it has no line -----BEGIN PUBLIC KEY-----")),
            1 => {}
            _ => return Err(KeyError::Pem("it holds several keys, and one is allowed")),
        }
        let pem = pem.as_bytes();
        // Each constructor accepts only its own kind, by the object identifier.
        let key = DecodingKey::from_rsa_pem(pem)
            .or_else(|_| DecodingKey::from_ec_pem(pem))
            .or_else(|_| DecodingKey::from_ed_pem(pem))
            .map_err(|_| KeyError::Unsupported)?;
        Self::from_public(key).ok_or(KeyError::Unsupported)
    }

    /// A public signature key from a JWKS; `None` if it is anything else.
    pub(super) fn from_jwk(jwk: &Jwk) -> Option<Self> {
        let common = &jwk.common;
        if common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature)
            || common
                .key_operations
                .as_ref()
                .is_some_and(|operations| !operations.contains(&KeyOperations::Verify))
        {
            return None;
        }
        let curve = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => None,
            AlgorithmParameters::EllipticCurve(key) => Some(&key.curve),
            AlgorithmParameters::OctetKeyPair(key) => Some(&key.curve),
            // A published symmetric key is no secret.
            _ => return None,
        };
        let mut key = Self::from_public(DecodingKey::from_jwk(jwk).ok()?)?;
        let fits = match curve {
            None => true,
            Some(EllipticCurve::P256) => key.algorithms == [Algorithm::ES256],
            Some(EllipticCurve::P384) => key.algorithms == [Algorithm::ES384],
            Some(EllipticCurve::Ed25519) => key.algorithms == [Algorithm::EdDSA],
            Some(_) => false,
        };
        if let Some(stated) = common.key_algorithm {
            let stated = Algorithm::try_from(stated).ok()?;
            key.algorithms.retain(|algorithm| *algorithm == stated);
        }
        (fits && !key.algorithms.is_empty()).then_some(key)
    }

    /// Parses the whole key, so that a key that could never verify is found at start.
    fn from_public(key: DecodingKey) -> Option<Self> {
        let parses = |algorithm: &'static dyn VerificationAlgorithm| {
            key.try_get_as_bytes().is_ok_and(|bytes| ParsedPublicKey::new(algorithm, bytes).is_ok())
        };
        let algorithms = match key.family() {
            AlgorithmFamily::Rsa if rsa_bits(&key).is_some_and(|n| (2048..=8192).contains(&n)) => {
                RSA
            }
            AlgorithmFamily::Ec if parses(&ECDSA_P256_SHA256_FIXED) => &[Algorithm::ES256],
            AlgorithmFamily::Ec if parses(&ECDSA_P384_SHA384_FIXED) => &[Algorithm::ES384],
            AlgorithmFamily::Ed if parses(&ED25519) => &[Algorithm::EdDSA],
            _ => return None,
        };
        Some(Self { key, algorithms: algorithms.to_vec() })
    }

    /// Whether the key may verify `algorithm`.
    pub(super) fn allows(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// The token's claims, if this key signed it with one of its algorithms. The claims are not checked
    /// here.
    pub(super) fn verify(&self, token: &str) -> Result<Map<String, Value>, AuthError> {
        let mut signature_only = Validation::default();
        signature_only.algorithms.clone_from(&self.algorithms);
        signature_only.required_spec_claims.clear();
        signature_only.validate_exp = false;
        signature_only.validate_nbf = false;
        signature_only.validate_aud = false;
        match decode(token, &self.key, &signature_only) {
            Ok(token) => Ok(token.claims),
            Err(error) => Err(match error.kind() {
                ErrorKind::InvalidAlgorithm => AuthError::Algorithm,
                ErrorKind::InvalidSignature => AuthError::Signature,
                _ => AuthError::Malformed,
            }),
        }
    }
}

/// The size of an RSA key's modulus in bits.
fn rsa_bits(key: &DecodingKey) -> Option<usize> {
    let parsed;
    let (n, e): (&[u8], &[u8]) = match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => (n, e),
        DecodingKeyKind::SecretOrDer(der) => {
            let public = rsa::PublicKey::from_der(der).ok()?;
            parsed = RsaPublicKeyComponents::<Vec<u8>>::from(&public);
            (&parsed.n, &parsed.e)
        }
    };
    let start = n.iter().position(|byte| *byte != 0)?;
    let bits = (n.len() - start) * 8 - n[start].leading_zeros() as usize;
    e.iter().any(|byte| *byte != 0).then_some(bits)
}

/// Turns the two characters `\n` (and `\r`) of a one-line value into line breaks.
pub(super) fn unescape(pem: &str) -> String {
    pem.replace("\\r", "").replace("\\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::tests::fixture;

    fn algorithms(pem: &str) -> Vec<Algorithm> {
        VerifyingKey::from_public_pem(pem).unwrap().algorithms
    }

    #[test]
    fn a_public_key_fixes_its_algorithms() {
        for name in ["rsa.pub.pem", "rsa.pkcs1.pub.pem", "rsa.cert.pem"] {
            assert_eq!(algorithms(&fixture(name)), RSA, "{name}");
        }
        for name in ["ec-p256.pub.pem", "ec-p256.cert.pem"] {
            assert_eq!(algorithms(&fixture(name)), [Algorithm::ES256], "{name}");
        }
        assert_eq!(algorithms(&fixture("ec-p384.pub.pem")), [Algorithm::ES384]);
        assert_eq!(algorithms(&fixture("ed25519.pub.pem")), [Algorithm::EdDSA]);
    }

    #[test]
    fn a_key_may_stand_in_one_line() {
        let line = fixture("rsa.pub.pem").replace('\n', "\\n");
        assert!(!line.contains('\n'));
        assert_eq!(algorithms(&line), RSA);
        assert_eq!(algorithms(&fixture("rsa.pub.pem").replace('\n', "\\r\\n")), RSA);
    }

    #[test]
    fn a_key_that_cannot_verify_is_refused() {
        let refused = |pem: &str| VerifyingKey::from_public_pem(pem).unwrap_err();
        assert_eq!(refused(&fixture("rsa.pem")), KeyError::Private);
        assert_eq!(refused(&fixture("ec-p256.sec1.pem")), KeyError::Private);
        assert_eq!(refused(&fixture("rsa-1024.pub.pem")), KeyError::Unsupported);
        assert_eq!(refused(&fixture("ec-secp256k1.pub.pem")), KeyError::Unsupported);
        assert!(matches!(refused("keys/public.pem"), KeyError::Pem(_)));
        assert!(matches!(refused(""), KeyError::Pem(_)));
        let two = fixture("rsa.pub.pem") + &fixture("ec-p256.pub.pem");
        assert!(matches!(refused(&two), KeyError::Pem(_)));
        let truncated = &fixture("rsa.pub.pem")[..200];
        assert_eq!(refused(truncated), KeyError::Unsupported);
    }

    #[test]
    fn a_secret_is_neither_empty_nor_public() {
        let refused = |secret: &str| VerifyingKey::from_secret(secret).unwrap_err();
        assert_eq!(refused(""), KeyError::EmptySecret);
        assert_eq!(refused(&fixture("rsa.pub.pem")), KeyError::PublicSecret);
        assert_eq!(refused(&fixture("rsa.cert.pem")), KeyError::PublicSecret);
        assert_eq!(VerifyingKey::from_secret("s").unwrap().algorithms, HMAC);
    }

    #[test]
    fn debug_shows_no_key() {
        let shown = format!("{:?}", VerifyingKey::from_secret("hunter2").unwrap());
        assert!(!shown.contains("hunter2") && !shown.contains("104"), "{shown}");
    }
}
