//! Text from tokens that arrive one by one.

use super::TextTokenizer;
use crate::error::Result;

/// Makes text of tokens as they come, in whole characters: what may still change with the next
/// token is held back.
#[derive(Debug, Default)]
pub(crate) struct TextDecoder {
    ids: Vec<u32>,
    /// Where decoding starts: a token earlier than what is needed, since some tokenizers treat the
    /// first token of a text differently.
    window: usize,
    /// Bytes of the window's text that are given out.
    given: usize,
}

impl TextDecoder {
    /// The text that `id` completes.
    pub(crate) fn push(&mut self, id: u32, tokenizer: &TextTokenizer) -> Result<String> {
        let before = self.ids.len();
        self.ids.push(id);
        let text = tokenizer.decode(self.pending())?;
        // An incomplete character decodes to replacement characters at the end.
        let whole = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
        let piece = whole.get(self.given..).unwrap_or_default().to_owned();
        self.given += piece.len();
        if !piece.is_empty() && whole.len() == text.len() {
            self.window = before;
            self.given = tokenizer.decode(self.pending())?.len();
        }
        Ok(piece)
    }

    /// What is still held back: an unfinished character, as a replacement character.
    pub(crate) fn finish(&mut self, tokenizer: &TextTokenizer) -> Result<String> {
        let text = tokenizer.decode(self.pending())?;
        let rest = text.get(self.given..).unwrap_or_default().to_owned();
        self.given += rest.len();
        Ok(rest)
    }

    fn pending(&self) -> &[u32] {
        self.ids.get(self.window..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::byte_tokenizer;
    use super::*;

    fn pieces(bytes: &[u8]) -> (Vec<String>, String) {
        let directory = tempfile::tempdir().unwrap();
        let tokenizer = byte_tokenizer(directory.path());
        let mut decoder = TextDecoder::default();
        let pieces =
            bytes.iter().map(|&byte| decoder.push(u32::from(byte), &tokenizer).unwrap()).collect();
        (pieces, decoder.finish(&tokenizer).unwrap())
    }

    #[test]
    fn characters_come_whole() {
        let (pieces, rest) = pieces("aé猫😀".as_bytes());
        assert_eq!(pieces, ["a", "", "é", "", "", "猫", "", "", "", "😀"]);
        assert_eq!(rest, "");
    }

    #[test]
    fn pieces_add_up_to_the_lossy_text_of_any_bytes() {
        let cases: [&[u8]; 6] = [
            b"plain",
            b"\xf0\x9f\x98",
            b"a\xff\xfe\x80b\xc3",
            b"\xe7\x8c\xab\xe7\x8c",
            b"\x80\x80\x80",
            b"ok\xef\xbf\xbd!",
        ];
        for bytes in cases {
            let (pieces, rest) = pieces(bytes);
            assert_eq!(pieces.concat() + &rest, String::from_utf8_lossy(bytes), "{bytes:?}");
        }
    }
}
