//! Applying what the server says: `<table-updates>` of RFC 7047 and `<table-updates2>`.
//!
//! An update that does not fit the contents (a change of a row that is not there) means that the
//! replica and the server disagree about what was said before: the owner fetches everything anew.

use super::changes::differing;
use super::references::References;
use super::{Idl, TableState};
use crate::row::{Columns, RowData};
use ferrovs_ovsdb::{Datum, Uuid, uuid};
use ferrovs_runtime::vlog::{self, RateLimit, modules};
use ferrovs_stream::json::{Value, Walker, to_string};
use std::collections::HashSet;

static RL: RateLimit = RateLimit::new(5, 20);

/// The update does not fit the contents.
pub(super) struct Inconsistent;

/// What applying an update needs beside the table, and what comes of it.
struct Effects<'a> {
    tracking: bool,
    references: Option<&'a mut References>,
    /// Something changed that the owner wants to be woken for.
    tell: bool,
    /// Rows that changed, for those that refer to them.
    changed: Vec<Uuid>,
    inconsistent: bool,
}

/// Updates of tables, as a tree or as text. Of text a row at a time becomes a tree.
pub(super) enum Updates<'a, 'b> {
    Tree(Value),
    Text(&'a mut Walker<'b>),
}

impl Updates<'_, '_> {
    /// Calls `each` with the table's name, the row's id and what is said of it.
    fn each(self, mut each: impl FnMut(&str, &str, &Value)) -> Result<(), Inconsistent> {
        let walker = match self {
            Updates::Text(walker) => walker,
            Updates::Tree(Value::Object(tables)) => {
                for (table, rows) in tables {
                    if let Value::Object(rows) = rows {
                        for (id, update) in rows {
                            each(&table, &id, &update);
                        }
                    }
                }
                return Ok(());
            }
            Updates::Tree(_) => return Ok(()),
        };
        let walked = walker.members::<()>(|table, w| {
            if !w.at_object() {
                return w.skip();
            }
            w.members(|id, w| {
                let update = w.value()?;
                each(&table, &id, &update);
                Ok(())
            })
        });
        walked.map_err(|_| Inconsistent)
    }
}

impl Idl {
    /// Applies updates to the contents.
    pub(super) fn apply(
        &mut self,
        updates: Updates<'_, '_>,
        differences: bool,
    ) -> Result<(), Inconsistent> {
        self.take_in(
            updates,
            |index, table, id, update, effects| match differences {
                true => table.apply2(index, id, update, effects),
                false => table.apply1(index, id, update, effects),
            },
        )
    }

    /// Replaces the contents by the initial rows in `updates`; what differs counts as changed.
    pub(super) fn replace(
        &mut self,
        updates: Updates<'_, '_>,
        differences: bool,
    ) -> Result<(), Inconsistent> {
        let members: &[&str] = match differences {
            true => &["initial", "insert"],
            false => &["new"],
        };
        // Of tables that were empty nothing can be gone.
        let kept = |t: &TableState| (!t.rows.is_empty()).then(HashSet::new);
        let mut kept: Vec<Option<HashSet<Uuid>>> = self.tables.iter().map(kept).collect();
        let taken = self.take_in(updates, |index, table, id, update, effects| {
            let columns = members.iter().find_map(|m| update.get(*m));
            if let Some(columns) = columns {
                let row = table.parse_row(id, columns);
                table.put(index, row, effects);
                if let Some(kept) = &mut kept[index] {
                    kept.insert(id);
                }
            }
        });
        let mut effects = Effects::new(self.tracking, self.references.as_mut());
        for ((index, table), kept) in self.tables.iter_mut().enumerate().zip(kept) {
            let Some(kept) = kept else { continue };
            let gone: Vec<Uuid> = table
                .rows
                .keys()
                .filter(|id| !kept.contains(id))
                .copied()
                .collect();
            for id in gone {
                table.delete(index, id, &mut effects);
            }
        }
        let changed = effects.changed;
        self.mark_referrers(changed);
        taken
    }

    fn take_in(
        &mut self,
        updates: Updates<'_, '_>,
        mut each: impl FnMut(usize, &mut TableState, Uuid, &Value, &mut Effects<'_>),
    ) -> Result<(), Inconsistent> {
        let mut effects = Effects::new(self.tracking, self.references.as_mut());
        let (db, tables) = (self.db, &mut self.tables);
        // Rows of one table come one after the other.
        let mut last: (String, Option<usize>) = (String::new(), None);
        let walked = updates.each(|name, id, update| {
            if last.0 != name {
                last = (name.to_string(), db.table_index(name));
                if last.1.is_none() {
                    vlog::warn_rl!(RL, modules::OVSDB_IDL, "update to unknown table \"{name}\"");
                }
            }
            if let (Some(index), Some(id)) = (last.1, uuid::parse(id)) {
                each(index, &mut tables[index], id, update, &mut effects);
            }
        });
        let Effects {
            tell,
            changed,
            inconsistent,
            ..
        } = effects;
        self.mark_referrers(changed);
        if tell {
            self.seqno += 1;
        }
        match inconsistent {
            true => Err(Inconsistent),
            false => walked,
        }
    }
}

impl Effects<'_> {
    fn new(tracking: bool, references: Option<&mut References>) -> Effects<'_> {
        Effects {
            tracking,
            references,
            tell: false,
            changed: Vec::new(),
            inconsistent: false,
        }
    }

    fn changed(&mut self, id: Uuid) {
        if self.references.is_some() {
            self.changed.push(id);
        }
    }
}

impl TableState {
    /// One `<row-update2>`.
    fn apply2(&mut self, index: usize, id: Uuid, update: &Value, effects: &mut Effects<'_>) {
        let member = update.as_object().and_then(|o| o.iter().next());
        match member.map(|(kind, columns)| (kind.as_str(), columns)) {
            Some(("initial" | "insert", columns)) => {
                if self.rows.contains_key(&id) {
                    vlog::warn_rl!(
                        RL,
                        modules::OVSDB_IDL,
                        "cannot add existing row {id} to table {}",
                        self.def.name
                    );
                    effects.inconsistent = true;
                    return;
                }
                let row = self.parse_row(id, columns);
                self.put(index, row, effects);
            }
            Some(("delete", _)) => self.delete(index, id, effects),
            Some(("modify", columns)) => self.modify(index, id, columns, true, effects),
            _ => vlog::warn_rl!(
                RL,
                modules::OVSDB_IDL,
                "bad row update {}",
                to_string(update)
            ),
        }
    }

    /// One `<row-update>`.
    fn apply1(&mut self, index: usize, id: Uuid, update: &Value, effects: &mut Effects<'_>) {
        match (update.get("old"), update.get("new")) {
            (Some(_), None) => self.delete(index, id, effects),
            (_, Some(new)) if self.rows.contains_key(&id) => {
                self.modify(index, id, new, false, effects);
            }
            (_, Some(new)) => {
                let row = self.parse_row(id, new);
                self.put(index, row, effects);
            }
            (None, None) => {}
        }
    }

    fn parse_row(&self, id: Uuid, columns: &Value) -> RowData {
        let mut row = RowData {
            uuid: id,
            columns: Columns::new(&self.defaults),
        };
        for (name, json) in columns.as_object().into_iter().flatten() {
            if let Some((i, datum)) = self.parse(id, name, json, false) {
                row.columns.put(i, datum);
            }
        }
        row.columns.shrink();
        row
    }

    /// Takes a whole row, new or in place of what is there.
    fn put(&mut self, index: usize, row: RowData, effects: &mut Effects<'_>) {
        let id = row.uuid;
        if let Some(old) = self.rows.get(&id) {
            let columns = differing(old, &row);
            if columns == 0 {
                return;
            }
            if let Some(references) = effects.references.as_deref_mut() {
                references.remove(index, &self.types, old);
            }
            if effects.tracking {
                self.changes.modify(id, columns);
            }
            effects.tell |=
                (0..row.columns.len()).any(|i| columns & (1 << i) != 0 && self.alert[i]);
        } else {
            if effects.tracking {
                self.changes.insert(id, &row, effects.references.is_some());
            }
            effects.tell = true;
        }
        if let Some(references) = effects.references.as_deref_mut() {
            references.add(index, &self.types, &row);
        }
        effects.changed(id);
        self.rows.insert(id, row);
    }

    fn delete(&mut self, index: usize, id: Uuid, effects: &mut Effects<'_>) {
        let Some(row) = self.rows.remove(&id) else {
            vlog::warn_rl!(
                RL,
                modules::OVSDB_IDL,
                "cannot delete missing row {id} from table {}",
                self.def.name
            );
            effects.inconsistent = true;
            return;
        };
        effects.tell = true;
        if let Some(references) = effects.references.as_deref_mut() {
            references.remove(index, &self.types, &row);
        }
        effects.changed(id);
        if effects.tracking {
            self.changes.delete(id, row);
        }
    }

    fn modify(
        &mut self,
        index: usize,
        id: Uuid,
        columns: &Value,
        difference: bool,
        effects: &mut Effects<'_>,
    ) {
        let Some(mut row) = self.rows.remove(&id) else {
            vlog::warn_rl!(
                RL,
                modules::OVSDB_IDL,
                "cannot modify missing row {id} in table {}",
                self.def.name
            );
            effects.inconsistent = true;
            return;
        };
        if let Some(references) = effects.references.as_deref_mut() {
            references.remove(index, &self.types, &row);
        }
        let mut touched = 0u64;
        for (name, json) in columns.as_object().into_iter().flatten() {
            let Some((i, datum)) = self.parse(id, name, json, difference) else {
                continue;
            };
            let datum = match difference {
                true => row.columns[i].apply_diff(&datum, &self.types[i]),
                false => datum,
            };
            if row.columns[i] != datum {
                row.columns.put(i, datum);
                touched |= 1 << i;
                effects.tell |= self.alert[i];
            }
        }
        if let Some(references) = effects.references.as_deref_mut() {
            references.add(index, &self.types, &row);
        }
        self.rows.insert(id, row);
        if touched != 0 {
            effects.changed(id);
            if effects.tracking {
                self.changes.modify(id, touched);
            }
        }
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
