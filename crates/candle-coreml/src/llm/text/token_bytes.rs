//! The bytes that a token stands for, which need not be whole characters.

use tokenizers::{DecoderWrapper, Tokenizer};

/// The bytes of a token; none for an id that the tokenizer does not know.
pub(super) fn token_bytes(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let Some(piece) = tokenizer.id_to_token(id) else { return Vec::new() };
    if tokenizer.get_added_vocabulary().get_vocab().contains_key(&piece) {
        return piece.into_bytes();
    }
    if tokenizer.get_decoder().is_some_and(is_byte_level) {
        return piece.chars().flat_map(bytes_of_stand_in).collect();
    }
    match fallback_byte(&piece) {
        Some(byte) => vec![byte],
        // SentencePiece's sign for a space.
        None => piece.replace('\u{2581}', " ").into_bytes(),
    }
}

fn is_byte_level(decoder: &DecoderWrapper) -> bool {
    match decoder {
        DecoderWrapper::ByteLevel(_) => true,
        DecoderWrapper::Sequence(sequence) => sequence.get_decoders().iter().any(is_byte_level),
        _ => false,
    }
}

/// The byte of a character in GPT-2's alphabet: printable Latin-1 stands for itself, and the other
/// bytes follow one another from U+0100 on.
fn bytes_of_stand_in(character: char) -> Vec<u8> {
    let code = u32::from(character);
    let byte = match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => Some(code),
        0x100..=0x120 => Some(code - 0x100),
        0x121..=0x142 => Some(code - 0x121 + 0x7f),
        0x143 => Some(0xad),
        _ => None,
    };
    match byte.and_then(|byte| u8::try_from(byte).ok()) {
        Some(byte) => vec![byte],
        None => character.to_string().into_bytes(),
    }
}

/// The byte of a token such as `<0xE2>`.
fn fallback_byte(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::text::testing::write_byte_tokenizer;

    #[test]
    fn each_byte_has_its_stand_in() {
        let directory = tempfile::tempdir().unwrap();
        write_byte_tokenizer(directory.path());
        let tokenizer = Tokenizer::from_file(directory.path().join("tokenizer.json")).unwrap();
        for byte in 0..=255u8 {
            assert_eq!(token_bytes(&tokenizer, u32::from(byte)), [byte]);
        }
        assert_eq!(token_bytes(&tokenizer, 256), b"<end>");
        assert!(token_bytes(&tokenizer, 9999).is_empty());
    }

    #[test]
    fn sentence_pieces_have_spaces_and_bytes() {
        let json = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": null, "post_processor": null,
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"}, {"type": "Fuse"}]},
            "model": {"type": "BPE", "byte_fallback": true, "merges": [],
                "vocab": {"<0xE2>": 0, "▁hé": 1, "<0xZZ>": 2}}}"#;
        let tokenizer: Tokenizer = json.parse().unwrap();
        assert_eq!(token_bytes(&tokenizer, 0), [0xe2]);
        assert_eq!(token_bytes(&tokenizer, 1), " hé".as_bytes());
        assert_eq!(token_bytes(&tokenizer, 2), b"<0xZZ>");
    }
}
