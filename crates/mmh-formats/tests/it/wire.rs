//! Writers of wire formats that several tests need to say what no sample says.

use mmh_formats::Layout;

/// Appends a base-128 number.
pub(crate) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A protobuf field that holds a number.
pub(crate) fn number(field: u64, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, field << 3);
    varint(&mut out, value);
    out
}

/// A protobuf field that holds bytes: text or a message.
pub(crate) fn message(field: u64, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, field << 3 | 2);
    varint(&mut out, body.len() as u64);
    out.extend_from_slice(body);
    out
}

/// Element type and bytes of the only tensor, `None` if there is none.
pub(crate) fn only(layout: &Layout) -> Option<(&'static str, u64)> {
    let mut tensors = layout.tensors();
    let found = tensors
        .next()
        .map(|(part, info)| (info.dtype.as_str(), part.len));
    assert!(tensors.next().is_none(), "one tensor at most");
    found
}
