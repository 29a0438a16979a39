//! Small pieces of output.

use std::fmt::{self, Write};

/// Appends `name:N` or nothing if `n` is 0.
pub fn nonzero(out: &mut String, name: &str, n: u64) {
    if n != 0 {
        let _ = write!(out, "{name}{n}");
    }
}

/// `%#x` of C: zero has no prefix.
pub fn hex(n: u64) -> Hex {
    Hex(n)
}

/// See [`hex`].
pub struct Hex(u64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.pad("0"),
            n if f.width().is_some() => f.pad(&format!("{n:#x}")),
            n => write!(f, "{n:#x}"),
        }
    }
}

/// Appends a duration: whole seconds without a fraction, whole milliseconds with three digits, others with up to
/// nine without zeros at the end.
pub fn duration(out: &mut String, sec: u32, nsec: u32) {
    let _ = write!(out, "{sec}");
    if nsec != 0 && nsec.is_multiple_of(1_000_000) {
        let _ = write!(out, ".{:03}", nsec / 1_000_000);
    } else if nsec != 0 {
        let _ = write!(out, ".{nsec:09}");
        out.truncate(out.trim_end_matches('0').len());
    }
    out.push('s');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_as_many_digits_as_they_need() {
        let show = |sec, nsec| {
            let mut out = String::new();
            duration(&mut out, sec, nsec);
            out
        };
        assert_eq!(show(5, 0), "5s");
        assert_eq!(show(0, 10_000_000), "0.010s");
        assert_eq!(show(5, 500_000), "5.0005s");
        assert_eq!(show(7200, 250_000_500), "7200.2500005s");
        assert_eq!(show(1, 5), "1.000000005s");
    }
}
