//! Writing JSON: compact as on the wire, or pretty with two-space steps as the tools print it.

use serde_json::Value;
use std::fmt::Write;

/// Compact text: no blanks, object members in order of name.
pub fn to_string(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value, None);
    out
}

/// Indented text, as `--pretty` prints it.
pub fn to_string_pretty(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value, Some(0));
    out
}

fn write_value(out: &mut String, value: &Value, depth: Option<usize>) {
    let inner = depth.map(|d| d + 1);
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(i), _) => drop(write!(out, "{i}")),
            (None, Some(real)) => out.push_str(&format_real(real)),
            (None, None) => out.push_str("null"),
        },
        Value::String(text) => write_string(out, text),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                indent(out, inner);
                write_value(out, item, inner);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            indent(out, inner);
            for (i, (name, member)) in members.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                    indent(out, inner);
                }
                write_string(out, name);
                out.push(':');
                if inner.is_some() {
                    out.push(' ');
                }
                write_value(out, member, inner);
            }
            out.push('}');
        }
    }
}

fn indent(out: &mut String, depth: Option<usize>) {
    if let Some(depth) = depth {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    }
}

/// Appends `text` in quotes, escaped as Open vSwitch escapes it.
pub fn write_string(out: &mut String, text: &str) {
    out.push('"');
    let mut from = 0;
    for (i, b) in text.bytes().enumerate() {
        let escape = match b {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            8 => "\\b",
            12 => "\\f",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 => "",
            _ => continue,
        };
        out.push_str(&text[from..i]);
        from = i + 1;
        if escape.is_empty() {
            let _ = write!(out, "\\u{b:04x}");
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(&text[from..]);
    out.push('"');
}

/// A real with 15 significant digits, as C's `%.15g` writes it.
pub fn format_real(real: f64) -> String {
    const DIGITS: i32 = 15;
    if real == 0.0 {
        return if real.is_sign_negative() {
            "-0".into()
        } else {
            "0".into()
        };
    }
    if !real.is_finite() {
        return "null".into();
    }
    let scientific = format!("{real:.14e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |s: &str| match s.contains('.') {
        true => s.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => s.to_string(),
    };
    if !(-4..DIGITS).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", trim(mantissa), exponent.abs())
    } else {
        let decimals = usize::try_from(DIGITS - 1 - exponent).unwrap_or(0);
        trim(&format!("{real:.decimals$}"))
    }
}
