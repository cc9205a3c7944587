//! Hashes of what is written.

use sha2::{Digest, Sha256};

/// SHA-256 of some bytes.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// An identifier in the form of a UUID, made of bytes that it stands for (version 8, RFC 9562).
pub(super) fn identifier(bytes: &[u8]) -> String {
    let mut id = u128::from_be_bytes(*sha256(bytes).first_chunk().unwrap_or(&[0; 16]));
    id = id & !(0xF << 76) | 8 << 76;
    id = id & !(3 << 62) | 2 << 62;
    let hex = format!("{id:032X}");
    let part = |range| hex.get(range).unwrap_or_default();
    let parts = [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)];
    parts.join("-")
}

#[cfg(test)]
mod tests {
    #[test]
    fn identifiers_have_the_form_of_uuids() {
        // SHA-256 of nothing starts with e3b0c44298fc1c149afbf4c8996fb924.
        assert_eq!(super::identifier(b""), "E3B0C442-98FC-8C14-9AFB-F4C8996FB924");
    }
}
