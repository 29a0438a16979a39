//! Numbers as scanf reads them, which is how Open vSwitch reads arguments of these commands.

/// The number at the front of a text, as scanf reads it: it wraps, and what follows does not matter.
pub(crate) fn number(text: &str) -> Option<u32> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    digits.starts_with(|c: char| c.is_ascii_digit()).then(|| {
        let digits = digits.chars().map_while(|c| c.to_digit(10));
        let n = digits.fold(0u32, |n, d| n.wrapping_mul(10).wrapping_add(d));
        if negative { n.wrapping_neg() } else { n }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_scanf() {
        for (text, n) in [
            ("12x", Some(12)),
            ("0x12", Some(0)),
            ("-3", Some(4294967293)),
            ("4294967296", Some(0)),
            ("99999999999999999999999", Some(4135583743)),
            ("", None),
            ("x", None),
            ("-", None),
        ] {
            assert_eq!(number(text), n, "{text}");
        }
    }
}
