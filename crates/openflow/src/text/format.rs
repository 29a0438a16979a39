//! Small pieces of output.

use std::fmt::Write;

/// Appends `name:N` or nothing if `n` is 0.
pub fn nonzero(out: &mut String, name: &str, n: u64) {
    if n != 0 {
        let _ = write!(out, "{name}{n}");
    }
}

/// `%#x` of C: zero has no prefix.
pub fn hex(n: u64) -> String {
    if n == 0 {
        "0".to_owned()
    } else {
        format!("{n:#x}")
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
