//! Printing: compact, or pretty with two spaces a level. Members come sorted (the tree is a
//! `BTreeMap`), reals as C's `%.15g`.

use serde_json::Value;

pub fn to_string(v: &Value) -> String {
    let mut out = Vec::new();
    write(&mut out, v);
    into_string(out)
}

/// Two spaces a level, `"name": value`; closing brackets stay on the line of what they close.
pub fn to_string_pretty(v: &Value) -> String {
    let mut out = Vec::new();
    pretty(&mut out, v, 0);
    into_string(out)
}

fn into_string(out: Vec<u8>) -> String {
    String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// Appends the compact form.
pub fn write(out: &mut Vec<u8>, v: &Value) {
    match v {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(n) => match n.as_i64() {
            Some(i) => write_integer(out, i),
            None => write_real(out, n.as_f64().unwrap_or(0.0)),
        },
        Value::String(s) => write_str(out, s),
        Value::Array(a) => {
            out.push(b'[');
            for (i, x) in a.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(out, x);
            }
            out.push(b']');
        }
        Value::Object(m) => {
            out.push(b'{');
            for (i, (k, x)) in m.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_str(out, k);
                out.push(b':');
                write(out, x);
            }
            out.push(b'}');
        }
    }
}

fn pretty(out: &mut Vec<u8>, v: &Value, indent: usize) {
    let inner = indent + 2;
    let newline = |out: &mut Vec<u8>| {
        out.push(b'\n');
        out.resize(out.len() + inner, b' ');
    };
    match v {
        Value::Array(a) => {
            out.push(b'[');
            for (i, x) in a.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                newline(out);
                pretty(out, x, inner);
            }
            out.push(b']');
        }
        Value::Object(m) => {
            out.push(b'{');
            newline(out);
            for (i, (k, x)) in m.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                    newline(out);
                }
                write_str(out, k);
                out.extend_from_slice(b": ");
                pretty(out, x, inner);
            }
            out.push(b'}');
        }
        _ => write(out, v),
    }
}

/// Appends a quoted string. What was not UTF-8 in it is U+FFFD.
pub fn write_str(out: &mut Vec<u8>, s: &str) {
    out.push(b'"');
    let mut rest = crate::utf8::printable(s).as_bytes();
    while let Some(n) = rest.iter().position(|&c| IS_ESCAPED[usize::from(c)]) {
        out.extend_from_slice(&rest[..n]);
        write_escaped(out, rest[n]);
        rest = &rest[n + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Bytes of text that do not stand for themselves.
const IS_ESCAPED: [bool; 256] = {
    let mut table = [false; 256];
    let mut c = 0;
    while c < 0x20 {
        table[c] = true;
        c += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

fn write_escaped(out: &mut Vec<u8>, c: u8) {
    let short = match c {
        8 => b'b',
        12 => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        b'"' | b'\\' => c,
        _ => return out.extend_from_slice(format!("\\u{c:04x}").as_bytes()),
    };
    out.extend_from_slice(&[b'\\', short]);
}

pub fn write_integer(out: &mut Vec<u8>, v: i64) {
    let mut buf = [0u8; 20];
    let mut i = buf.len();
    let mut u = v.unsigned_abs();
    loop {
        i -= 1;
        buf[i] = b'0' + (u % 10) as u8;
        u /= 10;
        if u == 0 {
            break;
        }
    }
    if v < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&buf[i..]);
}

pub fn write_real(out: &mut Vec<u8>, v: f64) {
    out.extend_from_slice(format_real(v).as_bytes());
}

/// C's `%.15g`, with two digits more for the few numbers that this would round to what no double holds.
pub fn format_real(v: f64) -> String {
    /// The largest number of 15 digits.
    const LARGEST: f64 = 1.797_693_134_862_315e308;
    let digits = if v.abs() > LARGEST { 17 } else { 15 };
    if v == 0.0 {
        return if v.is_sign_negative() {
            "-0".into()
        } else {
            "0".into()
        };
    }
    if !v.is_finite() {
        return if v.is_nan() {
            "nan"
        } else if v > 0.0 {
            "inf"
        } else {
            "-inf"
        }
        .into();
    }
    let e = format!("{v:.*e}", digits - 1);
    let Some((mantissa, exp)) = e.split_once('e') else {
        return e;
    };
    let exp: i32 = exp.parse().unwrap_or(0);
    let trim = |s: &str| -> String {
        if s.contains('.') {
            s.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            s.to_owned()
        }
    };
    if !(-4..digits as i32).contains(&exp) {
        let sign = if exp < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", trim(mantissa), exp.abs())
    } else {
        trim(&format!("{v:.*}", (digits as i32 - 1 - exp) as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reals_print_with_fifteen_digits() {
        for (v, want) in [
            (0.1, "0.1"),
            (1e15, "1e+15"),
            (1e14, "100000000000000"),
            (1.5e16, "1.5e+16"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (3.000_000_000_000_000_4, "3"),
            (-10.25, "-10.25"),
            (1e300, "1e+300"),
            (999_999_999_999_999.9, "1e+15"),
            (1.797_693_134_862_315e308, "1.79769313486231e+308"),
            (f64::MAX, "1.7976931348623157e+308"),
        ] {
            assert_eq!(format_real(v), want);
        }
    }
}
