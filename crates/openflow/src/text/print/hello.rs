//! Hello.

use std::fmt::Write;

use super::hex_dump;
use crate::version::Versions;

/// Appends the versions that a hello offers.
pub fn format_hello(versions: Versions, ok: bool, msg: &[u8], out: &mut String) {
    out.push_str("\n version bitmap: ");
    let mut first = true;
    for bit in 0..32 {
        if versions.0 & 1 << bit != 0 {
            if !first {
                out.push_str(", ");
            }
            first = false;
            let _ = write!(out, "{bit:#04x}");
        }
    }
    if !ok {
        out.push_str("\n unknown data in hello:\n");
        hex_dump(msg, true, out);
    }
}
