//! Whole messages as a line (or more) of a log.

use super::Names;
use super::print::{Print, format_message};
use crate::tun::Tun;

/// A message as Open vSwitch's log shows it: little detail, ports and tables by number, no end of line.
pub fn message(bytes: &[u8]) -> String {
    let tun = Tun::none();
    let print = Print {
        names: Names::none(&tun),
        verbosity: 1,
    };
    let mut out = String::new();
    format_message(bytes, print, &mut out);
    if out.ends_with('\n') {
        out.pop();
    }
    out
}
