//! The certificate authority, and the log that certificates go into first.
//! <https://github.com/sigstore/fulcio/blob/main/docs/certificate-specification.md>,
//! <https://www.rfc-editor.org/rfc/rfc6962#section-3>

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use edgepack::sign::key::PublicKey;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber, SignatureAlgorithm, SigningKey,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::der::{self, OCTETS, UTF8};
use super::{Quirk, at, unix};

const SCT_LIST: &[u64] = &[1, 3, 6, 1, 4, 1, 11_129, 2, 4, 2];
const ISSUER: &[u64] = &[1, 3, 6, 1, 4, 1, 57_264, 1, 1];
const ISSUER_V2: &[u64] = &[1, 3, 6, 1, 4, 1, 57_264, 1, 8];
/// Certificates last so many seconds.
const LIFETIME: i64 = 600;

/// An authority with its own key, and the certificate that says so.
pub struct Authority {
    pub issuer: Issuer<'static, KeyPair>,
    pub certificate: Vec<u8>,
    pub pem: String,
    spki: Vec<u8>,
    name: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let params = Self::params(name);
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        Authority {
            certificate: made.der().to_vec(),
            pem: made.pem(),
            spki: key.subject_public_key_info(),
            issuer: Issuer::new(params, key),
            name: name.to_owned(),
        }
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    /// Another certificate for its name and its key, by another authority or itself.
    pub fn again(&self, by: &Authority, change: impl Fn(&mut CertificateParams)) -> Vec<u8> {
        let mut params = Self::params(&self.name);
        change(&mut params);
        let made = params.signed_by(self.issuer.key(), &by.issuer).unwrap();
        made.der().to_vec()
    }

    /// The dates of one that holds for a day, which ends in so many days.
    pub fn from_day(days: i64) -> impl Fn(&mut CertificateParams) {
        move |params| {
            params.not_before = at(unix() + (days - 1) * 86_400);
            params.not_after = at(unix() + days * 86_400);
        }
    }
}

pub fn named(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "sigstore for tests");
    subject.push(DnType::CommonName, name);
    subject
}

/// Somebody else's key on the P-256 curve: the point alone.
struct Point(Vec<u8>);

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

pub struct Ca {
    pub authority: Authority,
    other: Authority,
    pub log: KeyPair,
    other_log: KeyPair,
}

impl Ca {
    pub fn new() -> Self {
        Ca {
            authority: Authority::new("authority"),
            other: Authority::new("authority"),
            log: KeyPair::generate().unwrap(),
            other_log: KeyPair::generate().unwrap(),
        }
    }

    /// A request as clients send it, some of them with the token in the header; a
    /// certificate for whom that names.
    pub fn issue(
        &self,
        request: &Value,
        header: Option<&str>,
        quirk: &Quirk,
    ) -> Result<Value, String> {
        let token = request["credentials"]["oidcIdentityToken"].as_str();
        let token = token
            .or(header.and_then(|h| h.strip_prefix("Bearer ")))
            .ok_or("no token")?;
        let claims = token.split('.').nth(1).ok_or("no claims")?;
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|e| e.to_string())?;
        let claims: Value = serde_json::from_slice(&claims).map_err(|e| e.to_string())?;
        let now = unix();
        if claims["exp"].as_i64().unwrap_or_default() < now {
            return Err("the token is not valid any more".into());
        }
        let text = |name: &str| claims[name].as_str();
        let key = &request["publicKeyRequest"];
        let pem = key["publicKey"]["content"].as_str().ok_or("no key")?;
        let proof = key["proofOfPossession"].as_str().ok_or("no proof")?;
        let proof = STANDARD.decode(proof).map_err(|e| e.to_string())?;
        let signed = text("email").or(text("sub")).ok_or("no subject")?;
        let public = PublicKey::parse(pem, "the key").map_err(|e| e.to_string())?;
        if !public.verifies(signed.as_bytes(), &proof) {
            return Err("whoever asks does not hold the key".into());
        }
        let point: String = pem.lines().filter(|l| !l.starts_with('-')).collect();
        let point = STANDARD.decode(point).map_err(|e| e.to_string())?;
        let point = Point(point[point.len() - 65..].to_vec());
        let from = match quirk {
            Quirk::OldCertificate => now - 2 * LIFETIME,
            _ => now - 5,
        };
        let leaf = self.certify(&point, &claims, from, quirk);
        let chain = json!({"certificates": [leaf, self.authority.pem]});
        Ok(json!({"signedCertificateEmbeddedSct": {"chain": chain}}))
    }

    fn certify(&self, key: &Point, claims: &Value, from: i64, quirk: &Quirk) -> String {
        let authority = match quirk {
            Quirk::OtherAuthority => &self.other,
            _ => &self.authority,
        };
        let subject = match (&claims["job_workflow_ref"], &claims["ci_config_ref_uri"]) {
            (Value::String(workflow), _) => {
                SanType::URI(format!("https://github.com/{workflow}").try_into().unwrap())
            }
            (_, Value::String(config)) => {
                SanType::URI(format!("https://{config}").try_into().unwrap())
            }
            _ => SanType::Rfc822Name(claims["email"].as_str().unwrap().try_into().unwrap()),
        };
        let issuer = claims["iss"].as_str().unwrap().as_bytes();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.not_before = at(from);
        params.not_after = at(from + LIFETIME);
        params.serial_number = Some(SerialNumber::from_slice(&key.0[1..17]));
        params.subject_alt_names = match quirk {
            Quirk::Named("") => Vec::new(),
            Quirk::Named(name) => vec![SanType::URI((*name).try_into().unwrap())],
            _ => vec![subject],
        };
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        params.use_authority_key_identifier_extension = true;
        params.custom_extensions = vec![
            CustomExtension::from_oid_content(ISSUER, issuer.to_vec()),
            CustomExtension::from_oid_content(ISSUER_V2, der::der(UTF8, &[issuer])),
        ];
        let before = params.signed_by(key, &authority.issuer).unwrap();
        if *quirk == Quirk::NoSct {
            return before.pem();
        }
        let log = match quirk {
            Quirk::SctByOther => &self.other_log,
            _ => &self.log,
        };
        let tbs = der::inside(before.der())[0].2;
        let list = timestamp_list(log, tbs, &authority.spki, from);
        params
            .custom_extensions
            .push(CustomExtension::from_oid_content(SCT_LIST, list));
        params.signed_by(key, &authority.issuer).unwrap().pem()
    }
}

/// By what certificates name a log.
pub fn log_id(log: &KeyPair) -> [u8; 32] {
    Sha256::digest(log.subject_public_key_info()).into()
}

/// What the log says about a certificate, before that is in the certificate.
fn timestamp_list(log: &KeyPair, tbs: &[u8], issuer: &[u8], seconds: i64) -> Vec<u8> {
    let time = (u64::try_from(seconds).unwrap() * 1000).to_be_bytes();
    let issuer = Sha256::digest(issuer);
    let length = u32::try_from(tbs.len()).unwrap().to_be_bytes();
    let head: &[u8] = &[0, 0];
    let signed = [head, &time, &[0, 1], &issuer, &length[1..], tbs, &[0, 0]].concat();
    let signature = log.sign(&signed).unwrap();
    let sized = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        [&length[..], bytes].concat()
    };
    let id = log_id(log);
    let one = [&[0][..], &id, &time, &[0, 0], &[4, 3], &sized(&signature)].concat();
    der::der(OCTETS, &[&sized(&sized(&one))])
}
