//! Kinds and cases of characters, as Python's methods of text know them.

use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

use crate::llm::text::jinja::lexer::is_space;
use crate::llm::text::jinja::value::is_printable;

/// Digits that are not decimal ones, such as superscripts and numbers in circles.
const DIGITS: [(u32, u32); 20] = [
    (0xb2, 0xb3),
    (0xb9, 0xb9),
    (0x1369, 0x1371),
    (0x19da, 0x19da),
    (0x2070, 0x2070),
    (0x2074, 0x2079),
    (0x2080, 0x2089),
    (0x2460, 0x2468),
    (0x2474, 0x247c),
    (0x2488, 0x2490),
    (0x24ea, 0x24ea),
    (0x24f5, 0x24fd),
    (0x24ff, 0x24ff),
    (0x2776, 0x277e),
    (0x2780, 0x2788),
    (0x278a, 0x2792),
    (0x10a40, 0x10a43),
    (0x10e60, 0x10e68),
    (0x11052, 0x1105a),
    (0x1f100, 0x1f10a),
];

/// Common ideographs that are numbers.
const NUMBERS: &str = "〇一二三四五六七八九十百千万亿億兆零壹贰叁肆伍陆柒捌玖拾佰仟萬两兩";

fn is_letter(c: char) -> bool {
    c.general_category_group() == GeneralCategoryGroup::Letter
}

fn is_decimal(c: char) -> bool {
    c.general_category() == GeneralCategory::DecimalNumber
}

/// The value of a decimal digit of any script. Each script's ten stand in a row.
pub(super) fn digit_value(c: char) -> Option<u32> {
    if c.is_ascii() || !is_decimal(c) {
        return c.to_digit(10);
    }
    let before = (0..u32::from(c)).rev().map_while(char::from_u32).take_while(|c| is_decimal(*c));
    Some(before.count() as u32 % 10)
}

fn is_digit(c: char) -> bool {
    let code = u32::from(c);
    is_decimal(c) || DIGITS.iter().any(|(first, last)| (*first..=*last).contains(&code))
}

fn is_numeric(c: char) -> bool {
    c.general_category_group() == GeneralCategoryGroup::Number || NUMBERS.contains(c)
}

fn is_word(c: char) -> bool {
    is_letter(c) || is_numeric(c)
}

fn is_cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase() || is_title(c)
}

fn is_title(c: char) -> bool {
    c.general_category() == GeneralCategory::TitlecaseLetter
}

/// Whether there are characters, and all of them are of a kind: the methods `isalpha` and others.
pub(super) fn all_are(method: &str, text: &str) -> bool {
    let kind = match method {
        "isalpha" => is_letter,
        "isalnum" => is_word,
        "isdecimal" => is_decimal,
        "isdigit" => is_digit,
        "isnumeric" => is_numeric,
        "isspace" => is_space,
        "isprintable" => return text.chars().all(is_printable),
        "isascii" => return text.is_ascii(),
        _ => return is_identifier(text),
    };
    !text.is_empty() && text.chars().all(kind)
}

fn is_identifier(text: &str) -> bool {
    use GeneralCategory::{ConnectorPunctuation, LetterNumber, NonspacingMark, SpacingMark};
    let begins = |c: char| c == '_' || is_letter(c) || c.general_category() == LetterNumber;
    let goes_on = |c: char| {
        begins(c)
            || is_decimal(c)
            || matches!(c.general_category(), ConnectorPunctuation | NonspacingMark | SpacingMark)
    };
    text.chars().next().is_some_and(begins) && text.chars().all(goes_on)
}

/// A character of a word, for counting words.
pub(super) fn is_word_character(c: char) -> bool {
    is_word(c) || c == '_'
}

pub(super) fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(|c| c.is_uppercase() || is_title(c))
}

pub(super) fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(|c| c.is_lowercase() || is_title(c))
}

pub(super) fn is_title_case(text: &str) -> bool {
    let (mut in_word, mut found) = (false, false);
    for c in text.chars() {
        let begins = c.is_uppercase() || is_title(c);
        if begins == in_word && is_cased(c) {
            return false;
        }
        in_word = is_cased(c);
        found |= in_word;
    }
    found
}

/// A character as the first one of a word.
fn title(c: char) -> String {
    match c {
        'Ǆ'..='ǆ' => 'ǅ'.to_string(),
        'Ǉ'..='ǉ' => 'ǈ'.to_string(),
        'Ǌ'..='ǌ' => 'ǋ'.to_string(),
        'Ǳ'..='ǳ' => 'ǲ'.to_string(),
        // Georgian has capitals for whole words alone.
        'ა'..='ჿ' => c.to_string(),
        _ => {
            let mut upper = c.to_uppercase();
            upper.next().into_iter().chain(upper.flat_map(char::to_lowercase)).collect()
        }
    }
}

/// The first character as at the beginning of a word, the others small.
pub(super) fn capitalize(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(title).unwrap_or_default();
    first + &characters.as_str().to_lowercase()
}

/// Python's `title`: every row of letters with case is a word.
pub(super) fn title_case(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            result.extend(c.to_lowercase());
        } else {
            result.push_str(&title(c));
        }
        in_word = is_cased(c);
    }
    result
}

pub(super) fn swap_case(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_uppercase() {
            result.extend(c.to_lowercase());
        } else {
            result.extend(c.to_uppercase());
        }
    }
    result
}

/// Text without case, for comparing.
pub(super) fn case_fold(text: &str) -> String {
    let fold = |c: char| -> String {
        match c {
            'ı' | '\u{13a0}'..='\u{13f5}' => c.to_string(),
            '\u{13f8}'..='\u{13fd}' | '\u{ab70}'..='\u{abbf}' => c.to_uppercase().collect(),
            _ => c.to_uppercase().flat_map(char::to_lowercase).collect(),
        }
    };
    text.chars().map(fold).collect()
}
