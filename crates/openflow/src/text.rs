//! Flows, actions, groups, meters and messages in text, both ways, as `ovs-ofctl` reads and writes them.
//!
//! Parsing functions give Open vSwitch's own error texts. What parsing learns about the protocols that can carry
//! a flow is collected in a [`Protocol`](crate::version::Protocol) set. Printing appends to a `String`.

pub mod action;
pub mod color;
pub mod cursor;
pub mod flow;
pub mod format;
pub mod group;
pub mod key;
pub mod log;
pub mod match_;
pub mod meter;
pub mod parse_action;
pub mod print;

use std::borrow::Cow;

use ferrovs_packet::field::{NoPorts, PortMap};

use crate::tun::Tun;

/// What knows the names of tables.
pub trait TableMap {
    fn table_by_name(&self, _name: &str) -> Option<u8> {
        None
    }

    fn table_name(&self, _table: u8) -> Option<Cow<'_, str>> {
        None
    }
}

/// No table has a name.
pub struct NoTables;

impl TableMap for NoTables {}

/// The names with which text is read and written, and the widths of tunnel options.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    pub ports: &'a dyn PortMap,
    pub tables: &'a dyn TableMap,
    pub tun: &'a Tun<'a>,
}

impl<'a> Names<'a> {
    /// Numbers only.
    pub fn none(tun: &'a Tun<'a>) -> Names<'a> {
        Names {
            ports: &NoPorts,
            tables: &NoTables,
            tun,
        }
    }
}

/// Appends a table by name or number.
pub fn format_table(table: u8, tables: &dyn TableMap, out: &mut String) {
    match tables.table_name(table) {
        Some(name) => {
            let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
            if plain {
                out.push_str(&name);
            } else {
                out.push('"');
                for c in name.chars() {
                    if c == '"' || c == '\\' {
                        out.push('\\');
                    }
                    out.push(c);
                }
                out.push('"');
            }
        }
        None => out.push_str(&table.to_string()),
    }
}

/// Reads a table number or name. A number out of range is warned about.
pub fn parse_table(s: &str, names: &Names<'_>) -> Option<u8> {
    match cursor::parse_u64(s) {
        Some(n) => match u8::try_from(n) {
            Ok(n) => Some(n),
            Err(_) => {
                names.ports.warn_table(n);
                None
            }
        },
        None => {
            let name = s
                .strip_prefix('"')
                .and_then(|s| s.strip_suffix('"'))
                .unwrap_or(s);
            names.tables.table_by_name(name)
        }
    }
}

/// The log line about a table number out of range.
trait WarnTable {
    fn warn_table(&self, n: u64);
}

impl WarnTable for dyn PortMap + '_ {
    fn warn_table(&self, n: u64) {
        // The port map hands warnings to the log; the module is told apart by its text.
        self.warn(format!(
            "table {n} is outside the supported range 0 through 255"
        ));
    }
}
