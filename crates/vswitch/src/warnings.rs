//! Says once in the log what is configured and has no effect ([`crate::features`]).
//!
//! Once means: for each row and setting, as long as it stays configured. A reconfiguration for
//! another reason repeats nothing; who takes a setting back and makes it again hears of it again.

use std::collections::HashSet;

use ferrovs_idl::open_vswitch::OPEN_VSWITCH;
use ferrovs_idl::{Datum, Idl, RowData, Uuid};
use ferrovs_ovsdb::Atom;
use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::BRIDGE;

use crate::features::{Feature, NOT_BUILT, Setting};

/// A setting that is not built, with its place in the schema.
struct Watched {
    feature: &'static Feature,
    setting: &'static Setting,
    table: usize,
    column: usize,
}

/// What was said.
pub(crate) struct Warnings {
    watched: Vec<Watched>,
    /// By row, and position in `watched`.
    said: HashSet<(Uuid, usize)>,
}

impl Default for Warnings {
    fn default() -> Self {
        let place = |feature, setting: &'static Setting| {
            let table = OPEN_VSWITCH.table_index(setting.table)?;
            let column = OPEN_VSWITCH.tables[table].column_index(setting.column)?;
            Some(Watched {
                feature,
                setting,
                table,
                column,
            })
        };
        let all = NOT_BUILT
            .iter()
            .flat_map(|f| f.settings.iter().filter_map(move |s| place(f, s)));
        Warnings {
            watched: all.collect(),
            said: HashSet::new(),
        }
    }
}

impl Warnings {
    /// Says what is new since the last time.
    pub(crate) fn run(&mut self, idl: &Idl) {
        let mut there = HashSet::new();
        for (table, def) in OPEN_VSWITCH.tables.iter().enumerate() {
            let watched: Vec<usize> = (0..self.watched.len())
                .filter(|i| self.watched[*i].table == table)
                .collect();
            if watched.is_empty() {
                continue;
            }
            for row in idl.table_rows(table) {
                for (column, datum) in row.columns.set() {
                    for &i in watched
                        .iter()
                        .filter(|i| self.watched[**i].column == column)
                    {
                        if !is_asked_for(self.watched[i].setting, datum) {
                            continue;
                        }
                        there.insert((row.uuid, i));
                        if !self.said.contains(&(row.uuid, i)) {
                            say(&self.watched[i], &label(def.name, table, row));
                        }
                    }
                }
            }
        }
        self.said = there;
    }
}

fn say(watched: &Watched, label: &str) {
    vlog::warn!(
        BRIDGE,
        "{label}: {} has no effect: {}",
        watched.setting,
        watched.feature.why
    );
}

/// Whether a column that is not empty asks for more than happens anyway.
fn is_asked_for(setting: &Setting, datum: &Datum) -> bool {
    let value = match setting.key {
        Some(key) => datum.get(&Atom::string(key)),
        None => datum.scalar(),
    };
    match (value, setting.harmless) {
        (Some(value), Some(harmless)) => !value.to_bare().eq_ignore_ascii_case(harmless),
        (Some(_), None) => true,
        // A set, or a map without the key.
        (None, _) => setting.key.is_none() && !datum.is_empty(),
    }
}

/// What the user calls a row.
fn label(name: &str, table: usize, row: &RowData) -> String {
    let named_by = match name {
        "Open_vSwitch" => return name.to_string(),
        "Controller" | "Manager" => "target",
        "Flow_Sample_Collector_Set" => "id",
        _ => "name",
    };
    let at = OPEN_VSWITCH.tables[table].column_index(named_by);
    let named = at.and_then(|at| row.columns[at].scalar().map(Atom::to_bare));
    let kind = name.to_ascii_lowercase();
    match named {
        Some(named) => format!("{kind} {named}"),
        None => format!("{kind} {}", row.uuid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(table: &str, column: &str, key: Option<&str>) -> &'static Setting {
        NOT_BUILT
            .iter()
            .flat_map(|f| f.settings)
            .find(|s| (s.table, s.column, s.key) == (table, column, key))
            .unwrap()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Datum {
        let atom = |(k, v): &(&str, &str)| (Atom::string(k), Atom::string(v));
        Datum::from_pairs(pairs.iter().map(atom).collect())
    }

    #[test]
    fn only_what_asks_for_more_than_happens_anyway_is_told() {
        let lacp = setting("Port", "lacp", None);
        assert!(is_asked_for(lacp, &Datum::from(Atom::string("active"))));
        assert!(!is_asked_for(lacp, &Datum::from(Atom::string("off"))));
        let bfd = setting("Interface", "bfd", Some("enable"));
        assert!(is_asked_for(bfd, &pairs(&[("enable", "true")])));
        assert!(!is_asked_for(bfd, &pairs(&[("enable", "false")])));
        assert!(!is_asked_for(bfd, &pairs(&[("min_rx", "100")])));
        let mirrors = setting("Bridge", "mirrors", None);
        let rows = [1u128, 2].map(|n| Atom::Uuid(Uuid::from_u128(n)));
        assert!(is_asked_for(mirrors, &Datum::from_atoms(rows.to_vec())));
        assert!(!is_asked_for(mirrors, &Datum::Empty));
    }
}
