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

/// Appends a duration of seconds and nanoseconds: at least milliseconds... as `1.5s`.
pub fn duration(out: &mut String, sec: u32, nsec: u32) {
    let _ = write!(out, "{sec}");
    let ms = nsec / 1_000_000;
    if nsec == 0 {
        out.push('s');
        return;
    }
    if nsec.is_multiple_of(1_000_000) {
        let _ = write!(out, ".{ms:03}s");
    } else if nsec.is_multiple_of(1000) {
        let _ = write!(out, ".{:06}s", nsec / 1000);
    } else {
        let _ = write!(out, ".{nsec:09}s");
    }
}
