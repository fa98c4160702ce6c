//! A self-signed X.509 certificate (RFC 5280) over an ML-DSA-65 key (RFC 9881), in DER (X.690).
//! It says nothing but the key: whoever connects knows it by its digest.

/// What a self-signed certificate is made of.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    /// The public key as a SubjectPublicKeyInfo, in DER.
    pub public_key: &'a [u8],
    /// A number that no other certificate has.
    pub serial: [u8; 16],
    /// The common name of issuer and subject.
    pub name: &'a str,
}

/// 2.16.840.1.101.3.4.3.18, ML-DSA-65 (RFC 9881, section 2), in DER.
const ML_DSA_65: [u8; 11] = [
    0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x12,
];
/// 2.5.4.3, the common name.
const COMMON_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];
/// 2.5.29.19, the basic constraints.
const BASIC_CONSTRAINTS: [u8; 5] = [0x06, 0x03, 0x55, 0x1D, 0x13];

const BOOLEAN_TRUE: [u8; 3] = [0x01, 0x01, 0xFF];
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const UTF8_STRING: u8 = 0x0C;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xA0;
const EXTENSIONS: u8 = 0xA3;

/// Makes a certificate; `sign` signs what it is given.
pub(crate) fn self_signed<E>(
    parts: &Parts<'_>,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, E> {
    let body = body(parts);
    let signature = bits(&sign(&body)?);
    let algorithm = tagged(SEQUENCE, &[&ML_DSA_65]);
    Ok(tagged(SEQUENCE, &[&body, &algorithm, &signature]))
}

fn body(parts: &Parts<'_>) -> Vec<u8> {
    let version = tagged(VERSION, &[&tagged(INTEGER, &[&[2]])]);
    let mut serial = parts.serial;
    // Positive, and in its shortest form.
    serial[0] = serial[0] & 0x7F | 0x40;
    let common = tagged(UTF8_STRING, &[parts.name.as_bytes()]);
    let common = tagged(SEQUENCE, &[&COMMON_NAME, &common]);
    let name = tagged(SEQUENCE, &[&tagged(SET, &[&common])]);
    // Without an end, as RFC 5280, section 4.1.2.5, writes it: the pin decides, no clock.
    let validity = tagged(
        SEQUENCE,
        &[
            &tagged(UTC_TIME, &[b"200101000000Z"]),
            &tagged(GENERALIZED_TIME, &[b"99991231235959Z"]),
        ],
    );
    // Not an authority.
    let constraints = tagged(OCTET_STRING, &[&tagged(SEQUENCE, &[])]);
    let constraints = tagged(SEQUENCE, &[&BASIC_CONSTRAINTS, &BOOLEAN_TRUE, &constraints]);
    let extensions = tagged(EXTENSIONS, &[&tagged(SEQUENCE, &[&constraints])]);
    tagged(
        SEQUENCE,
        &[
            &version,
            &tagged(INTEGER, &[&serial]),
            &tagged(SEQUENCE, &[&ML_DSA_65]),
            &name,
            &validity,
            &name,
            parts.public_key,
            &extensions,
        ],
    )
}

/// A bit string of whole bytes.
fn bits(bytes: &[u8]) -> Vec<u8> {
    tagged(BIT_STRING, &[&[0], bytes])
}

/// Tag, length and the parts one after the other.
fn tagged(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    let bytes = (len as u64).to_be_bytes();
    let short = bytes.iter().position(|b| *b != 0).unwrap_or(7);
    match bytes[short..] {
        [one] if one < 0x80 => out.push(one),
        ref several => {
            out.push(0x80 | u8::try_from(several.len()).expect("at most eight"));
            out.extend_from_slice(several);
        }
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_in_their_shortest_form() {
        for (len, head) in [
            (0, &[4, 0][..]),
            (127, &[4, 127]),
            (128, &[4, 0x81, 128]),
            (255, &[4, 0x81, 255]),
            (256, &[4, 0x82, 1, 0]),
            (65_536, &[4, 0x83, 1, 0, 0]),
        ] {
            let out = tagged(OCTET_STRING, &[&vec![7; len]]);
            assert_eq!(&out[..head.len()], head, "{len}");
            assert_eq!(out.len(), head.len() + len);
        }
    }

    #[test]
    fn what_is_signed_is_what_stands_in_it() {
        let parts = Parts {
            public_key: &tagged(SEQUENCE, &[]),
            serial: [0xFF; 16],
            name: "n",
        };
        let mut signed = Vec::new();
        let sign = |bytes: &[u8]| {
            signed = bytes.to_vec();
            Ok::<_, ()>(vec![9; 3309])
        };
        let certificate = self_signed(&parts, sign).unwrap();
        let at = certificate.windows(signed.len()).position(|w| w == signed);
        assert_eq!(at, Some(4), "behind a tag and a length of two bytes");
        assert!(certificate.ends_with(&[9; 100]));
        self_signed(&parts, |_| Err(())).unwrap_err();
    }
}
