//! Small pieces of text that every program writes the same way.

use std::io;

use crate::dirs;

/// The C library's text for an error, such as "No such file or directory".
pub fn errno(error: &io::Error) -> String {
    let Some(code) = error.raw_os_error() else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => "End of file".to_string(),
            _ => error.to_string(),
        };
    };
    let s = io::Error::from_raw_os_error(code).to_string();
    match s.rfind(" (os error ") {
        Some(at) => s[..at].to_string(),
        None => s,
    }
}

/// Prints `program: message` to standard error.
pub fn program_error(message: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{}: {}", dirs::program_name(), message);
}

/// Prints `program: message` to standard error and exits with status 1.
pub fn fatal(message: impl std::fmt::Display) -> ! {
    program_error(message);
    std::process::exit(1)
}

/// Prints `program: message (error)` to standard error and exits with status 1.
pub fn fatal_io(error: &io::Error, message: impl std::fmt::Display) -> ! {
    program_error(format_args!("{message} ({})", errno(error)));
    std::process::exit(1)
}

/// Quotes a string as JSON does, with Open vSwitch's escapes.
pub fn json_quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_the_c_library_writes_them() {
        assert_eq!(
            errno(&io::Error::from_raw_os_error(2)),
            "No such file or directory"
        );
        assert_eq!(json_quote("a\"b\\\n\u{1}"), "\"a\\\"b\\\\\\n\\u0001\"");
    }
}
