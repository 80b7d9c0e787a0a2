//! Numbers and names as people read them.

use std::fmt::Display;

/// A whole number with commas: `7,371`.
pub fn grouped(number: impl Display) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things: `1 relay`, `1,200 relays`.
pub fn counted(number: impl Display, thing: &str) -> String {
    let number = grouped(number);
    let plural = if number == "1" { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// Text from elsewhere, with escapes in place of what could steer a terminal or turn the order of
/// letters around: `\u{1b}[2J`.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if steers(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Returns true for control characters and for those that change the direction of text (Unicode
/// Standard Annex 9, section 2).
fn steers(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_have_commas() {
        let shown = [0, 999, 1000, 12_345, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "12,345", "1,234,567"]);
        let shown = [0, 1, 1200].map(|number| counted(number, "relay"));
        assert_eq!(shown, ["0 relays", "1 relay", "1,200 relays"]);
    }

    #[test]
    fn texts_do_not_steer_a_terminal_or_turn_letters_around() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), r"a\u{1b}[2Jb\u{a}");
        assert_eq!(printable("gnp.\u{202e}exe"), r"gnp.\u{202e}exe");
        assert_eq!(printable("naïve 中 עברית"), "naïve 中 עברית");
    }
}
