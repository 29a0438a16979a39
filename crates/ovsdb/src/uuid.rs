//! UUIDs in the one text form that OVSDB uses: 36 characters with hyphens, printed in lower case.
//!
//! The `uuid` crate's type carries the value; its parser takes more forms (braces, no hyphens, URN)
//! than OVSDB allows, hence `parse` here.

pub use ::uuid::Uuid;

/// Parses exactly `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`, in either case.
pub fn parse(s: &str) -> Option<Uuid> {
    let b: &[u8; 36] = s.as_bytes().try_into().ok()?;
    if [b[8], b[13], b[18], b[23]] != [b'-'; 4] {
        return None;
    }
    let mut out = [0u8; 16];
    let mut bad = 0;
    for (byte, at) in out.iter_mut().zip(STARTS) {
        let (high, low) = (HEX[usize::from(b[at])], HEX[usize::from(b[at + 1])]);
        bad |= high | low;
        *byte = high << 4 | low;
    }
    // What is no digit is more than any.
    (bad < 16).then(|| Uuid::from_bytes(out))
}

/// Where the digits of each byte are.
const STARTS: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

/// The values of hexadecimal digits.
const HEX: [u8; 256] = {
    let mut hex = [0xff; 256];
    let mut i = 0;
    while i < 16 {
        hex[b"0123456789abcdef"[i] as usize] = i as u8;
        hex[b"0123456789ABCDEF"[i] as usize] = i as u8;
        i += 1;
    }
    hex
};

/// True if `s` could be the start of a UUID: hexadecimal digits with hyphens where they belong.
pub fn is_partial(s: &str) -> bool {
    s.len() <= 36
        && s.bytes().enumerate().all(|(i, c)| {
            if matches!(i, 8 | 13 | 18 | 23) {
                c == b'-'
            } else {
                c.is_ascii_hexdigit()
            }
        })
}

/// A random version 4 UUID. Much cheaper than asking the kernel each time: a xoshiro256++ generator
/// per thread, seeded from it. UUIDs name rows; they are no secrets.
pub fn random() -> Uuid {
    use std::cell::Cell;
    thread_local! {
        static STATE: Cell<[u64; 4]> = Cell::new({
            let (a, b) = (Uuid::new_v4().as_u64_pair(), Uuid::new_v4().as_u64_pair());
            [a.0, a.1, b.0, b.1]
        });
    }
    fn next(s: &mut [u64; 4]) -> u64 {
        let out = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        out
    }
    let mut s = STATE.get();
    let (a, b) = (next(&mut s), next(&mut s));
    STATE.set(s);
    ::uuid::Builder::from_random_bytes((u128::from(a) << 64 | u128::from(b)).to_be_bytes())
        .into_uuid()
}

/// Appends the 36-character form without going through `fmt`.
pub fn write(out: &mut Vec<u8>, u: &Uuid) {
    let mut buf = [0u8; 36];
    u.as_hyphenated().encode_lower(&mut buf);
    out.extend_from_slice(&buf);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hyphenated_form_is_a_uuid() {
        let s = "01234567-89ab-CDEF-0123-456789abcdef";
        assert_eq!(parse(s).unwrap().to_string(), s.to_lowercase());
        assert!(parse("0123456789abcdef0123456789abcdef").is_none());
        assert!(parse("{01234567-89ab-cdef-0123-456789abcdef}").is_none());
        assert!(parse("01234567-89ab-cdef-0123-456789abcdeg").is_none());
        assert!(is_partial("0123") && is_partial("01234567-8") && !is_partial("012345678"));
    }
}
