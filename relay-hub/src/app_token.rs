//! App tokens: what a tenant's app shows in place of an API key. JWTs (RFC 7519) in one spelling and of one algorithm, Ed25519
//! (RFC 8037): whatever else a text says is no token. Knows no store and no time.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, ParsedPublicKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::ids::TokenKeyId;

/// No token is longer.
pub const LONGEST: usize = 4096;
/// Bytes of a public key.
pub const PUBLIC_LENGTH: usize = 32;
const SEED_LENGTH: usize = 32;
const SIGNATURE_LENGTH: usize = 64;

/// Why a text is not a token that this hub signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not in the one spelling.
    #[error("not shaped like an app token")]
    Malformed,
    /// Another key or other bytes.
    #[error("the signature of an app token is wrong")]
    Signature,
}

/// What a token says. Members that are not known may narrow what it is good for, so they are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// The token's own id.
    pub jti: String,
    /// Who pays.
    pub tenant: String,
    /// For which of its projects; calls for another are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Under which limits of the tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// The only models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    /// When it was issued, seconds since 1970: it is good from then on.
    pub iat: i64,
    /// From when on it is refused, seconds since 1970.
    pub exp: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    alg: &'a str,
    typ: &'a str,
    kid: &'a str,
}

/// A key that signs tokens. It stays in the process that issues them.
pub struct Signer {
    pair: Ed25519KeyPair,
    seed: Zeroizing<[u8; SEED_LENGTH]>,
}

impl Signer {
    /// A fresh one.
    pub fn fresh() -> Self {
        let mut seed = Zeroizing::new([0; SEED_LENGTH]);
        aws_lc_rs::rand::fill(seed.as_mut_slice()).expect("the system's random source answers");
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).expect("32 bytes are a seed");
        Self { pair, seed }
    }

    /// Reads what [`Signer::secret`] wrote; `None` where it is something else.
    pub fn read(secret: &str) -> Option<Self> {
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(secret).ok()?);
        let seed = Zeroizing::new(<[u8; SEED_LENGTH]>::try_from(bytes.as_slice()).ok()?);
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).ok()?;
        Some(Self { pair, seed })
    }

    /// The key as a text, to be sealed.
    pub fn secret(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(self.seed.as_slice()))
    }

    /// What tells its tokens from others'.
    pub fn public(&self) -> Vec<u8> {
        use aws_lc_rs::signature::KeyPair as _;
        self.pair.public_key().as_ref().to_vec()
    }

    /// A token.
    pub fn sign(&self, id: &TokenKeyId, claims: &Claims) -> String {
        let header = Header {
            alg: ALGORITHM,
            typ: TYPE,
            kid: id.as_str(),
        };
        let part = |json: Vec<u8>| URL_SAFE_NO_PAD.encode(json);
        let header = part(serde_json::to_vec(&header).unwrap_or_default());
        let claims = part(serde_json::to_vec(claims).unwrap_or_default());
        let signed = format!("{header}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

/// A public key, read once.
pub struct Verifier(ParsedPublicKey);

impl Verifier {
    /// `None` where the bytes are no key.
    pub fn new(public: &[u8]) -> Option<Self> {
        ParsedPublicKey::new(&ED25519, public).ok().map(Self)
    }
}

/// A token as it was shown; nothing of it is believed yet.
pub struct Shown<'a> {
    /// Which key it says has signed it.
    pub key: TokenKeyId,
    signed: &'a str,
    claims: &'a str,
    signature: [u8; SIGNATURE_LENGTH],
}

impl<'a> Shown<'a> {
    /// Whether a text is meant to be a token: its first part is JSON in base64.
    pub fn is_one(text: &str) -> bool {
        text.starts_with("eyJ")
    }

    /// Reads a token's frame, cheapest first: length, parts, signature, header.
    ///
    /// # Errors
    /// It is not in the one spelling that this hub writes.
    pub fn read(text: &'a str) -> Result<Self, TokenError> {
        if text.len() > LONGEST {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let signature = decoded(signature)?.try_into().map_err(|_| TokenError::Malformed)?;
        let header = decoded(header)?;
        let header: Header<'_> = serde_json::from_slice(&header).map_err(|_| TokenError::Malformed)?;
        if header.alg != ALGORITHM || header.typ != TYPE {
            return Err(TokenError::Malformed);
        }
        Ok(Self {
            key: TokenKeyId::parse(header.kid).map_err(|_| TokenError::Malformed)?,
            signed,
            claims,
            signature,
        })
    }

    /// What it says, once its signature was found to be right.
    ///
    /// # Errors
    /// The signature is wrong, or this hub does not know what is signed.
    pub fn verified(&self, by: &Verifier) -> Result<Claims, TokenError> {
        let signed = self.signed.as_bytes();
        by.0.verify_sig(signed, &self.signature)
            .map_err(|_| TokenError::Signature)?;
        serde_json::from_slice(&decoded(self.claims)?).map_err(|_| TokenError::Malformed)
    }
}

/// Without padding, and with nothing in the bits that are left over: one text for the same bytes.
fn decoded(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

const ALGORITHM: &str = "EdDSA";
const TYPE: &str = "JWT";

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        Claims {
            jti: "tok_0123456789abcdef".to_owned(),
            tenant: "ten_0123456789abcdef".to_owned(),
            project: Some("web".to_owned()),
            plan: None,
            models: Some(vec!["gpt-5*".to_owned()]),
            iat: 1,
            exp: 2,
        }
    }

    fn encoded(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    /// A token with any header and claims, rightly signed.
    fn forged(signer: &Signer, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encoded(header), encoded(claims));
        let signature = URL_SAFE_NO_PAD.encode(signer.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn outcome(text: &str, by: &Verifier) -> Result<Claims, TokenError> {
        Shown::read(text)?.verified(by)
    }

    #[test]
    fn a_token_says_what_was_signed_and_a_kept_key_signs_the_same() {
        let (signer, id) = (Signer::fresh(), TokenKeyId::random());
        let verifier = Verifier::new(&signer.public()).unwrap();
        let token = signer.sign(&id, &claims());
        assert!(Shown::is_one(&token));
        let shown = Shown::read(&token).unwrap();
        assert_eq!((&shown.key, shown.verified(&verifier)), (&id, Ok(claims())));
        let again = Signer::read(&signer.secret()).unwrap();
        assert_eq!(again.sign(&id, &claims()), token);
        assert!(Signer::read("AAAA").is_none() && Signer::read("not base64").is_none());
    }

    #[test]
    fn the_vector_of_rfc_8037_is_signed_as_it_says() {
        let signer = Signer::read("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
        assert_eq!(
            encoded_bytes(&signer.public()),
            "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
        );
        let signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = encoded_bytes(signer.pair.sign(signed.as_bytes()).as_ref());
        assert_eq!(
            signature,
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        );
    }

    fn encoded_bytes(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    #[test]
    fn every_other_spelling_is_refused_even_when_it_is_rightly_signed() {
        let (signer, id) = (Signer::fresh(), TokenKeyId::random());
        let verifier = Verifier::new(&signer.public()).unwrap();
        let good = serde_json::to_string(&claims()).unwrap();
        let header = format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{id}"}}"#);
        assert!(outcome(&forged(&signer, &header, &good), &verifier).is_ok());
        for header in [
            format!(r#"{{"alg":"none","typ":"JWT","kid":"{id}"}}"#),
            format!(r#"{{"alg":"HS256","typ":"JWT","kid":"{id}"}}"#),
            format!(r#"{{"alg":"eddsa","typ":"JWT","kid":"{id}"}}"#),
            format!(r#"{{"alg":"EdDSA","alg":"none","typ":"JWT","kid":"{id}"}}"#),
            format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{id}","crit":["b64"],"b64":false}}"#),
            format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{id}","jwk":{{"kty":"OKP"}}}}"#),
            format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{id}","jku":"https://evil.example"}}"#),
            r#"{"alg":"EdDSA","typ":"JWT","kid":"../../etc/passwd"}"#.to_owned(),
            r#"{"alg":"EdDSA","typ":"JWT","kid":"' OR 1=1 --"}"#.to_owned(),
            r#"{"alg":"EdDSA","typ":"JWT","kid":7}"#.to_owned(),
            r#"{"alg":"EdDSA","typ":"JWT"}"#.to_owned(),
            r#"["EdDSA"]"#.to_owned(),
            "{".repeat(200),
            String::new(),
        ] {
            let token = forged(&signer, &header, &good);
            assert_eq!(outcome(&token, &verifier), Err(TokenError::Malformed), "{header}");
        }
        for said in [
            good.replace(r#""exp":2"#, r#""exp":2,"exp":99"#),
            good.replace(r#""tenant":"ten"#, r#""tenant":"ten_x","tenant":"ten"#),
            good.replace(r#""exp":2"#, r#""exp":"2""#),
            good.replace(r#""exp":2"#, r#""exp":1e300"#),
            good.replace(r#","exp":2"#, ""),
            good.replace(r#""exp":2"#, r#""exp":2,"admin":true"#),
            "[]".to_owned(),
            "null".to_owned(),
            "[".repeat(2_000),
        ] {
            let token = forged(&signer, &header, &said);
            assert_eq!(outcome(&token, &verifier), Err(TokenError::Malformed), "{said}");
        }
    }

    #[test]
    fn a_token_that_was_touched_anywhere_is_refused() {
        let (signer, id) = (Signer::fresh(), TokenKeyId::random());
        let verifier = Verifier::new(&signer.public()).unwrap();
        let token = signer.sign(&id, &claims());
        for at in 0..token.len() {
            for other in ['A', 'B', '.', '=', ' ', '\u{0}'] {
                let mut touched: Vec<char> = token.chars().collect();
                if touched[at] == other {
                    continue;
                }
                touched[at] = other;
                let touched: String = touched.into_iter().collect();
                assert!(outcome(&touched, &verifier).is_err(), "{at} {other:?}");
            }
            assert!(outcome(&token[..at], &verifier).is_err());
        }
        let parts: Vec<_> = token.split('.').collect();
        for text in [
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}..{}", parts[0], parts[2]),
            format!("{token}."),
            format!("{token}="),
            format!("{token}.{}", parts[2]),
            format!(" {token}"),
            "eyJ".repeat(100_000),
            "eyJ..".to_owned(),
        ] {
            assert!(outcome(&text, &verifier).is_err(), "{}", &text[..text.len().min(40)]);
        }
        let other = Verifier::new(&Signer::fresh().public()).unwrap();
        assert_eq!(outcome(&token, &other), Err(TokenError::Signature));
    }

    #[test]
    fn a_public_key_used_as_a_shared_secret_signs_nothing() {
        let (signer, id) = (Signer::fresh(), TokenKeyId::random());
        let verifier = Verifier::new(&signer.public()).unwrap();
        let header = format!(r#"{{"alg":"HS256","typ":"JWT","kid":"{id}"}}"#);
        let said = serde_json::to_string(&claims()).unwrap();
        let signed = format!("{}.{}", encoded(&header), encoded(&said));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &signer.public());
        let tag = encoded_bytes(aws_lc_rs::hmac::sign(&key, signed.as_bytes()).as_ref());
        assert_eq!(
            outcome(&format!("{signed}.{tag}"), &verifier),
            Err(TokenError::Malformed)
        );
    }
}
