//! A tokenizer of single bytes for tests.

use std::path::Path;

use super::TextTokenizer;

/// A tokenizer of single bytes: id = byte, and `<end>` is 256. `E` is an end token too.
pub(crate) fn byte_tokenizer(directory: &Path) -> TextTokenizer {
    write_byte_tokenizer(directory);
    TextTokenizer::load(directory).unwrap()
}

pub(crate) fn write_byte_tokenizer(directory: &Path) {
    let vocabulary: serde_json::Map<String, serde_json::Value> = (0..=255u32)
        .map(|byte| (byte_character(byte).to_string(), serde_json::Value::from(byte)))
        .collect();
    let json = serde_json::json!({
        "version": "1.0",
        "added_tokens": [{"id": 256, "content": "<end>", "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false,
            "trim_offsets": true, "use_regex": false},
        "decoder": {"type": "ByteLevel", "add_prefix_space": false,
            "trim_offsets": true, "use_regex": false},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    });
    std::fs::write(directory.join("tokenizer.json"), json.to_string()).unwrap();
    let config = r#"{"eos_token": "<end>"}"#;
    std::fs::write(directory.join("tokenizer_config.json"), config).unwrap();
    std::fs::write(directory.join("config.json"), r#"{"eos_token_id": 69}"#).unwrap();
}

/// GPT-2's printable stand-in for a byte: printable Latin-1 stands for itself, the others count
/// up from U+0100.
fn byte_character(byte: u32) -> char {
    let printable = |b: u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let code = if printable(byte) {
        byte
    } else {
        256 + (0..byte).filter(|&b| !printable(b)).count() as u32
    };
    char::from_u32(code).unwrap()
}
