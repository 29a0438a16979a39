//! Types in words, for messages about text that does not parse: "set of up to 4096 integers".

use super::{BaseType, ColumnType, UNLIMITED};

impl BaseType {
    fn english(&self, plural: bool) -> String {
        let noun = self.atom.name();
        if plural {
            format!("{noun}s")
        } else {
            noun.to_owned()
        }
    }
}

impl ColumnType {
    /// The type in words.
    pub fn english(&self) -> String {
        match (&self.value, self.is_scalar()) {
            (None, true) => self.key.english(false),
            (None, false) => format!("set of {}{}", self.how_many(), self.key.english(true)),
            (Some(v), _) => format!(
                "map of {}({}, {}) pairs",
                self.how_many(),
                self.key.english(false),
                v.english(false)
            ),
        }
    }

    fn how_many(&self) -> String {
        if self.max == UNLIMITED {
            if self.min > 0 {
                format!("{} or more ", self.min)
            } else {
                String::new()
            }
        } else if self.min > 0 {
            format!("{} to {} ", self.min, self.max)
        } else {
            format!("up to {} ", self.max)
        }
    }
}
