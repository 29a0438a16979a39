//! Says once in the log what is configured and has no effect ([`crate::features`]).
//!
//! Once means: for each row and setting, as long as it stays configured. A reconfiguration for
//! another reason repeats nothing; who takes a setting back and makes it again hears of it again.

use std::collections::HashMap;

use ferrovs_idl::open_vswitch::OPEN_VSWITCH;
use ferrovs_idl::{Datum, Idl, RowData, Uuid};
use ferrovs_ovsdb::Atom;
use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::BRIDGE;

use crate::features::{Feature, NOT_BUILT, Setting};

/// A setting that is not built, with its place in its table.
struct Watched {
    feature: &'static Feature,
    setting: &'static Setting,
    column: usize,
}

/// What was said.
pub(crate) struct Warnings {
    /// By table.
    watched: Vec<Vec<Watched>>,
    /// By table and row: positions in `watched`.
    said: HashMap<(usize, Uuid), Vec<usize>>,
}

impl Default for Warnings {
    fn default() -> Self {
        let mut watched: Vec<Vec<Watched>> = Vec::new();
        watched.resize_with(OPEN_VSWITCH.tables.len(), Vec::new);
        for feature in NOT_BUILT {
            for setting in feature.settings {
                let Some(table) = OPEN_VSWITCH.table_index(setting.table) else {
                    continue;
                };
                if let Some(column) = OPEN_VSWITCH.tables[table].column_index(setting.column) {
                    watched[table].push(Watched {
                        feature,
                        setting,
                        column,
                    });
                }
            }
        }
        Warnings {
            watched,
            said: HashMap::new(),
        }
    }
}

impl Warnings {
    /// Says what is new since the last time: in `all` rows, or in those that changed.
    pub(crate) fn run(&mut self, idl: &Idl, all: bool) {
        for (table, def) in OPEN_VSWITCH.tables.iter().enumerate() {
            if self.watched[table].is_empty() {
                continue;
            }
            for (uuid, change) in idl.table_changes(table) {
                let touched = |w: &Watched| change.touches_column(w.column);
                if !all && self.watched[table].iter().any(touched) {
                    self.look_at(def.name, table, uuid, idl.table_row(table, uuid));
                }
            }
            if all {
                for row in idl.table_rows(table) {
                    self.look_at(def.name, table, row.uuid, Some(row));
                }
            }
        }
        if all {
            let there = |(table, uuid)| idl.table_row(table, uuid).is_some();
            self.said.retain(|place, _| there(*place));
        }
    }

    fn look_at(&mut self, name: &str, table: usize, uuid: Uuid, row: Option<&RowData>) {
        let mut now = Vec::new();
        let watched = &self.watched[table];
        let before = self.said.get(&(table, uuid));
        for (column, datum) in row.into_iter().flat_map(|row| row.columns.set()) {
            for (i, w) in watched
                .iter()
                .enumerate()
                .filter(|(_, w)| w.column == column)
            {
                if !is_asked_for(w.setting, datum) {
                    continue;
                }
                now.push(i);
                if !before.is_some_and(|said| said.contains(&i))
                    && let Some(row) = row
                {
                    say(w, &label(name, table, row));
                }
            }
        }
        match now.is_empty() {
            true => self.said.remove(&(table, uuid)),
            false => self.said.insert((table, uuid), now),
        };
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
