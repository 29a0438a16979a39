//! Applying what the server says: `<table-updates>` of RFC 7047 and `<table-updates2>`.

use super::{Idl, TableState};
use crate::row::RowData;
use ferrovs_ovsdb::{Datum, Uuid, uuid};
use ferrovs_runtime::vlog::{self, RateLimit, modules};
use ferrovs_stream::json::{Value, to_string};
use std::collections::BTreeMap;

static RL: RateLimit = RateLimit::new(5, 20);

impl Idl {
    /// Applies updates to the contents.
    pub(super) fn apply(&mut self, updates: &Value, differences: bool) {
        let mut changed = false;
        for (name, rows) in updates.as_object().into_iter().flatten() {
            let Some(table) = self.db.table_index(name) else {
                continue;
            };
            let tracking = self.tracking;
            let table = &mut self.tables[table];
            for (id, update) in rows.as_object().into_iter().flatten() {
                let Some(id) = uuid::parse(id) else { continue };
                changed |= if differences {
                    table.apply2(id, update, tracking)
                } else {
                    table.apply1(id, update, tracking)
                };
            }
        }
        if changed {
            self.seqno += 1;
        }
    }

    /// Replaces the contents by the initial rows in `updates`; what differs counts as changed.
    pub(super) fn replace(&mut self, updates: &Value, differences: bool) {
        let before: Vec<BTreeMap<Uuid, RowData>> = self
            .tables
            .iter_mut()
            .map(|t| std::mem::take(&mut t.rows))
            .collect();
        let tracking = std::mem::replace(&mut self.tracking, false);
        self.apply(updates, differences);
        self.tracking = tracking;
        if !tracking {
            return;
        }
        for (table, before) in self.tables.iter_mut().zip(before) {
            for (&id, row) in &table.rows {
                match before.get(&id) {
                    None => table.changes.entry(id).or_default().inserted = true,
                    Some(old) => {
                        let differs = |&i: &usize| old.columns[i] != row.columns[i];
                        let columns = (0..row.columns.len())
                            .filter(differs)
                            .fold(0, |m, i| m | 1 << i);
                        if columns != 0 {
                            table.changes.entry(id).or_default().columns |= columns;
                        }
                    }
                }
            }
            for (id, old) in before {
                if !table.rows.contains_key(&id) {
                    table.changes.entry(id).or_default().deleted = Some(old);
                }
            }
        }
    }
}

impl TableState {
    /// One `<row-update2>`; true if it is worth telling.
    fn apply2(&mut self, id: Uuid, update: &Value, tracking: bool) -> bool {
        let Some((kind, columns)) = update.as_object().and_then(|o| o.iter().next()) else {
            return false;
        };
        match kind.as_str() {
            "initial" | "insert" => {
                self.insert(id, columns, tracking);
                true
            }
            "delete" => self.delete(id, tracking),
            "modify" => self.modify(id, columns, true, tracking),
            _ => {
                vlog::warn_rl!(
                    RL,
                    modules::OVSDB_IDL,
                    "bad row update {}",
                    to_string(update)
                );
                false
            }
        }
    }

    /// One `<row-update>`; true if it is worth telling.
    fn apply1(&mut self, id: Uuid, update: &Value, tracking: bool) -> bool {
        match (update.get("old"), update.get("new")) {
            (Some(_), None) => self.delete(id, tracking),
            (_, Some(new)) if self.rows.contains_key(&id) => self.modify(id, new, false, tracking),
            (_, Some(new)) => {
                self.insert(id, new, tracking);
                true
            }
            (None, None) => false,
        }
    }

    fn insert(&mut self, id: Uuid, columns: &Value, tracking: bool) {
        let mut row = RowData {
            uuid: id,
            columns: self.defaults.clone(),
        };
        for (name, json) in columns.as_object().into_iter().flatten() {
            if let Some((i, datum)) = self.parse(id, name, json, false) {
                row.columns[i] = datum;
            }
        }
        self.rows.insert(id, row);
        if tracking {
            let change = self.changes.entry(id).or_default();
            change.inserted = true;
            change.deleted = None;
        }
    }

    fn delete(&mut self, id: Uuid, tracking: bool) -> bool {
        let Some(row) = self.rows.remove(&id) else {
            vlog::warn_rl!(
                RL,
                modules::OVSDB_IDL,
                "cannot delete missing row {id} from table {}",
                self.def.name
            );
            return false;
        };
        if tracking {
            // A row that came and went between two looks was never there.
            if self.changes.get(&id).is_some_and(|c| c.inserted) {
                self.changes.remove(&id);
            } else {
                self.changes.entry(id).or_default().deleted = Some(row);
            }
        }
        true
    }

    fn modify(&mut self, id: Uuid, columns: &Value, difference: bool, tracking: bool) -> bool {
        let mut touched = 0u64;
        let mut tell = false;
        for (name, json) in columns.as_object().into_iter().flatten() {
            let Some((i, datum)) = self.parse(id, name, json, difference) else {
                continue;
            };
            let Some(row) = self.rows.get_mut(&id) else {
                vlog::warn_rl!(
                    RL,
                    modules::OVSDB_IDL,
                    "cannot modify missing row {id} in table {}",
                    self.def.name
                );
                return false;
            };
            let ty = &self.types[i];
            // A difference of a column with exactly one value is the new value.
            let datum = match difference && !ty.is_scalar() {
                true => row.columns[i].apply_diff(&datum, ty),
                false => datum,
            };
            if row.columns[i] != datum {
                row.columns[i] = datum;
                touched |= 1 << i;
                tell |= self.alert[i];
            }
        }
        if tracking && touched != 0 {
            self.changes.entry(id).or_default().columns |= touched;
        }
        tell
    }

    fn parse(
        &self,
        id: Uuid,
        name: &str,
        json: &Value,
        difference: bool,
    ) -> Option<(usize, Datum)> {
        let Some(i) = self.def.column_index(name) else {
            vlog::warn_rl!(
                RL,
                modules::OVSDB_IDL,
                "unknown column {name} updating row {id} in table {}",
                self.def.name
            );
            return None;
        };
        let parsed = match difference {
            true => Datum::from_json_any_number(&self.types[i], json, None),
            false => Datum::from_json(&self.types[i], json, None),
        };
        match parsed {
            Ok(datum) => Some((i, datum)),
            Err(e) => {
                vlog::warn_rl!(
                    RL,
                    modules::OVSDB_IDL,
                    "error parsing column {name} in row {id} in table {}: {e}",
                    self.def.name
                );
                None
            }
        }
    }
}
