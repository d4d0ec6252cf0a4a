//! The clock: signs that something was there at a time.
//! <https://www.rfc-editor.org/rfc/rfc3161>, <https://www.rfc-editor.org/rfc/rfc5652#section-5>

use rcgen::{
    CertificateParams, CustomExtension, KeyPair, KeyUsagePurpose, SerialNumber, SigningKey,
};
use sha2::{Digest, Sha256};

use super::ca::{Authority, named};
use super::der::{
    CONTEXT_0, INTEGER, OCTETS, SEQUENCE, SET, TIME, der, inside, integer, oid, sequence, set,
    values,
};
use super::{Quirk, unix};

const SIGNED_DATA: &[u64] = &[1, 2, 840, 113_549, 1, 7, 2];
const CONTENT_TYPE: &[u64] = &[1, 2, 840, 113_549, 1, 9, 3];
const MESSAGE_DIGEST: &[u64] = &[1, 2, 840, 113_549, 1, 9, 4];
const SIGNING_TIME: &[u64] = &[1, 2, 840, 113_549, 1, 9, 5];
const SIGNING_CERTIFICATE: &[u64] = &[1, 2, 840, 113_549, 1, 9, 16, 2, 47];
const TST_INFO: &[u64] = &[1, 2, 840, 113_549, 1, 9, 16, 1, 4];
const SHA256: &[u64] = &[2, 16, 840, 1, 101, 3, 4, 2, 1];
const ECDSA_WITH_SHA256: &[u64] = &[1, 2, 840, 10_045, 4, 3, 2];
const POLICY: &[u64] = &[1, 3, 6, 1, 4, 1, 57_264, 2];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
const TIME_STAMPING: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 8];
const SERIAL: u64 = 7;

/// One that signs times, with its certificates.
pub struct Clock {
    pub authority: Authority,
    pub leaf: Vec<u8>,
    key: KeyPair,
}

impl Clock {
    pub fn new() -> Self {
        let authority = Authority::new("clocks");
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = named("clock");
        params.serial_number = Some(SerialNumber::from(SERIAL));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        // Clocks are asked to be for nothing else, which has to be critical.
        let mut usage =
            CustomExtension::from_oid_content(EXTENDED_KEY_USAGE, sequence(&[&oid(TIME_STAMPING)]));
        usage.set_criticality(true);
        params.custom_extensions = vec![usage];
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &authority.issuer).unwrap();
        Clock {
            leaf: leaf.der().to_vec(),
            authority,
            key,
        }
    }

    /// A request as clients send it; the reply.
    fn reply(&self, request: &[u8], seconds: i64) -> Vec<u8> {
        let asked = inside(request);
        let imprint = asked[1].2;
        // After the imprint: a policy, a nonce, whether to send certificates.
        let nonce = asked[2..].iter().find(|(tag, ..)| *tag == INTEGER);
        let info = sequence(&[
            &integer(1),
            &oid(POLICY),
            imprint,
            &integer(u64::try_from(unix()).unwrap()),
            &der(TIME, &[stamp(seconds).as_bytes()]),
            nonce.map_or(&[][..], |(_, _, all)| all),
        ]);
        let sha256 = sequence(&[&oid(SHA256)]);
        let attribute = |name: &[u64], value: &[u8]| sequence(&[&oid(name), &der(SET, &[value])]);
        let certificate = der(OCTETS, &[&Sha256::digest(&self.leaf)]);
        let attributes = vec![
            attribute(CONTENT_TYPE, &oid(TST_INFO)),
            attribute(SIGNING_TIME, &der(TIME, &[stamp(seconds).as_bytes()])),
            attribute(MESSAGE_DIGEST, &der(OCTETS, &[&Sha256::digest(&info)])),
            attribute(
                SIGNING_CERTIFICATE,
                &sequence(&[&sequence(&[&sequence(&[&certificate])])]),
            ),
        ];
        let signature = self.key.sign(&set(SET, attributes.clone())).unwrap();
        let tbs = inside(&self.leaf)[0].1;
        let issuer = values(tbs)
            .into_iter()
            .filter(|(tag, ..)| *tag == SEQUENCE)
            .nth(1)
            .unwrap()
            .2;
        let signer = sequence(&[
            &integer(1),
            &sequence(&[issuer, &integer(SERIAL)]),
            &sha256,
            &set(CONTEXT_0, attributes),
            &sequence(&[&oid(ECDSA_WITH_SHA256)]),
            &der(OCTETS, &[&signature]),
        ]);
        let data = sequence(&[
            &integer(3),
            &der(SET, &[&sha256]),
            &sequence(&[&oid(TST_INFO), &der(CONTEXT_0, &[&der(OCTETS, &[&info])])]),
            &set(CONTEXT_0, vec![self.leaf.clone()]),
            &der(SET, &[&signer]),
        ]);
        sequence(&[
            &sequence(&[&integer(0)]),
            &sequence(&[&oid(SIGNED_DATA), &der(CONTEXT_0, &[&data])]),
        ])
    }
}

/// The clock that is trusted, and another one.
pub struct Tsa {
    pub clock: Clock,
    other: Clock,
}

impl Tsa {
    pub fn new() -> Self {
        Tsa {
            clock: Clock::new(),
            other: Clock::new(),
        }
    }

    pub fn reply(&self, request: &[u8], quirk: &Quirk) -> Vec<u8> {
        match quirk {
            Quirk::ClockAhead => self.clock.reply(request, unix() + 3600),
            Quirk::ClockBehind => self.clock.reply(request, unix() - 3600),
            Quirk::ClockByOther => self.other.reply(request, unix()),
            _ => self.clock.reply(request, unix()),
        }
    }
}

/// `GeneralizedTime`, in seconds.
fn stamp(seconds: i64) -> String {
    let time = super::at(seconds);
    let (hour, minute, second) = time.to_hms();
    format!(
        "{:04}{:02}{:02}{hour:02}{minute:02}{second:02}Z",
        time.year(),
        u8::from(time.month()),
        time.day()
    )
}
