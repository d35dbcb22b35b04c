use std::fmt::{self, Write};

/// Text of a file in an error: one line, not too long, without control characters.
pub struct Excerpt<'a>(pub &'a str);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 60;
        for c in self.0.chars().take(LONGEST) {
            if c.is_control() { write!(f, "{}", c.escape_debug())? } else { f.write_char(c)? }
        }
        f.write_str(if self.0.chars().nth(LONGEST).is_some() { "..." } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_says_can_neither_forge_a_line_nor_fill_the_screen() {
        assert_eq!(Excerpt("a\nb\u{1b}[2J").to_string(), "a\\nb\\u{1b}[2J");
        assert_eq!(Excerpt(&"x".repeat(60)).to_string(), "x".repeat(60));
        assert_eq!(Excerpt(&"x".repeat(61)).to_string(), format!("{}...", "x".repeat(60)));
    }
}
