//! Commit: referential integrity, garbage collection, row limits, weak references, indexes, in that
//! order, which is also the order in which Open vSwitch reports problems.

use std::sync::Arc;

use super::{Change, Committed, Txn};
use crate::db::Database;
use crate::error::tag;
use crate::row::Row;
use crate::table::same_key;
use crate::types::RefType;
use crate::{Atom, Datum, Error, Uuid};

/// Changes the strong reference count of a row.
pub(super) fn count(db: &mut Database, table: usize, uuid: Uuid, by: i32) {
    let counts = &mut db.tables[table].strong;
    let n = counts.entry(uuid).or_insert(0);
    *n = n.saturating_add_signed(by);
    if *n == 0 {
        counts.remove(&uuid);
    }
}

/// The references of one kind in a row: target table, target, column. A strong reference of a row to
/// its own UUID keeps nothing alive and does not count.
fn each_ref(
    db: &Database,
    table: usize,
    row: &Row,
    kind: RefType,
    mut f: impl FnMut(usize, Uuid, usize),
) {
    let own = (kind == RefType::Strong).then_some(row.uuid);
    let mut f = |t, u, c| {
        if Some(u) != own {
            f(t, u, c);
        }
    };
    for r in &db.refs[table] {
        r.each(row.field(r.column), kind, |t, u| f(t, u, r.column));
    }
}

/// The references of one kind that a change adds (1) and takes away (-1): target table, target, column, which.
/// Of a large set that gained a member, that member alone.
fn each_new_ref(
    db: &Database,
    c: &Change,
    kind: RefType,
    mut f: impl FnMut(usize, Uuid, usize, i32),
) {
    let (old, new) = match (&c.old, &c.new) {
        (Some(old), Some(new)) => (old, new),
        (old, new) => {
            for (row, n) in [(old, -1), (new, 1)] {
                if let Some(row) = row {
                    each_ref(db, c.table, row, kind, |t, u, column| f(t, u, column, n));
                }
            }
            return;
        }
    };
    for r in db.refs[c.table].iter().filter(|r| r.has(kind)) {
        let (old, new) = (old.field(r.column), new.field(r.column));
        if old == new {
            continue;
        }
        // Of pairs either half may stay when the other changes: they count whole.
        let pairs = matches!(old, Datum::Map(_)) || matches!(new, Datum::Map(_));
        let (went, came) = match pairs {
            true => (old.clone(), new.clone()),
            false => (old.subtract(new), new.subtract(old)),
        };
        for (d, n) in [(went, -1), (came, 1)] {
            r.each(&d, kind, |t, u| {
                if kind == RefType::Weak || u != c.uuid {
                    f(t, u, r.column, n);
                }
            });
        }
    }
}

/// True if some column that refers to rows differs between the two.
fn refs_changed(db: &Database, table: usize, kind: RefType, c: &Change) -> bool {
    let mut refs = db.refs[table].iter().filter(|r| r.has(kind)).peekable();
    if refs.peek().is_none() {
        return false;
    }
    match (&c.old, &c.new) {
        (Some(a), Some(b)) => refs.any(|r| a.field(r.column) != b.field(r.column)),
        _ => true,
    }
}

impl Txn {
    /// Makes the changes final, or says why that is impossible; then the caller must roll back.
    /// `persist` is called with the final changes once they are known to be good.
    pub fn commit(
        mut self,
        db: &mut Database,
        persist: &mut dyn FnMut(&Database, &Committed) -> Result<(), Error>,
    ) -> Result<Committed, Error> {
        match self.check(db) {
            Ok(()) => {}
            Err(e) => {
                self.rollback(db);
                return Err(e);
            }
        }
        let done = Committed {
            changes: std::mem::take(&mut self.changes),
            comment: std::mem::take(&mut self.comment),
            durable: self.durable,
        };
        if let Err(e) = persist(db, &done) {
            self.changes = done.changes;
            self.rollback(db);
            return Err(e);
        }
        for c in &done.changes {
            relist_weak(db, c);
        }
        Ok(done)
    }

    /// The checks alone; the state is final if they pass.
    pub(super) fn check(&mut self, db: &mut Database) -> Result<(), Error> {
        self.drop_unchanged(db);
        if self.changes.is_empty() {
            return Ok(());
        }
        self.count_references(db);
        self.check_references(db)?;
        self.collect_garbage(db);
        self.check_max_rows(db)?;
        self.drop_dangling_weak(db)?;
        // A row that only gained weak references to nothing stays in: Open vSwitch gives it a new
        // version, which monitors of that column see.
        self.forget(db, |c| c.old.is_none() && c.new.is_none());
        self.check_indexes(db)
    }

    /// Forgets rows that are as they were, so that their version does not change.
    fn drop_unchanged(&mut self, db: &mut Database) {
        self.forget(db, |c| match (&c.old, &c.new) {
            (None, None) => true,
            (Some(a), Some(b)) => a.same_fields(b),
            _ => false,
        });
    }

    fn forget(&mut self, db: &mut Database, same: impl Fn(&Change) -> bool) {
        if !self.changes.iter().any(&same) {
            return;
        }
        for c in std::mem::take(&mut self.changes) {
            if same(&c) {
                db.tables[c.table].replace(c.uuid, c.old);
            } else {
                self.changes.push(c);
            }
        }
        self.by_row.clear();
        for (i, c) in self.changes.iter().enumerate() {
            self.by_row.insert((c.table, c.uuid), i);
        }
    }

    fn count_references(&mut self, db: &mut Database) {
        let mut deltas = Vec::new();
        for c in &self.changes {
            each_new_ref(db, c, RefType::Strong, |t, u, _, n| deltas.push((t, u, n)));
        }
        // Additions first: a count that saturates at zero on the way would be lost.
        for &(t, u, n) in deltas
            .iter()
            .filter(|d| d.2 > 0)
            .chain(deltas.iter().filter(|d| d.2 < 0))
        {
            count(db, t, u, n);
        }
        self.counts = deltas;
    }

    /// Every strong reference has a target, and nothing that is referred to goes away.
    fn check_references(&self, db: &Database) -> Result<(), Error> {
        for c in &self.changes {
            // What was referred to before is there, or was deleted just now.
            let mut missing = None;
            each_new_ref(db, c, RefType::Strong, |t, u, column, n| {
                let added = n > 0 && missing.is_none();
                if added && !db.tables[t].contains(&u) && !self.deleted(t, &u) {
                    missing = Some((t, u, column));
                }
            });
            if let Some((t, u, column)) = missing {
                let schema = &db.tables[c.table].schema;
                return Err(Error::new(
                    tag::REFERENTIAL,
                    format!(
                        "Table {} column {} row {} references nonexistent row {u} in table {}.",
                        schema.name, schema.columns[column].name, c.uuid, db.tables[t].schema.name
                    ),
                ));
            }
        }
        for c in &self.changes {
            let n = db.tables[c.table].strong_refs(&c.uuid);
            if c.new.is_none() && n > 0 {
                return Err(Error::new(
                    tag::REFERENTIAL,
                    format!(
                        "cannot delete {} row {} because of {n} remaining reference(s)",
                        db.tables[c.table].schema.name, c.uuid
                    ),
                ));
            }
        }
        Ok(())
    }

    fn collect_garbage(&mut self, db: &mut Database) {
        let mut work: Vec<(usize, Uuid)> = self
            .changes
            .iter()
            .map(|c| (c.table, c.uuid))
            .chain(self.counts.iter().filter(|d| d.2 < 0).map(|d| (d.0, d.1)))
            .filter(|w| !db.tables[w.0].schema.is_root)
            .collect();
        while let Some((t, u)) = work.pop() {
            if db.tables[t].strong_refs(&u) > 0 {
                continue;
            }
            let Some(row) = db.tables[t].get(&u).cloned() else {
                continue;
            };
            let mut freed = Vec::new();
            each_ref(db, t, &row, RefType::Strong, |t, u, _| freed.push((t, u)));
            self.delete(db, t, u);
            for (t, u) in freed {
                count(db, t, u, -1);
                self.counts.push((t, u, -1));
                if !db.tables[t].schema.is_root {
                    work.push((t, u));
                }
            }
        }
    }

    fn check_max_rows(&self, db: &Database) -> Result<(), Error> {
        let mut last = usize::MAX;
        for c in self
            .changes
            .iter()
            .filter(|c| c.old.is_none() && c.new.is_some())
        {
            if c.table == last {
                continue;
            }
            last = c.table;
            let (schema, n) = (&db.tables[c.table].schema, db.tables[c.table].len());
            if n > schema.max_rows as usize {
                return Err(Error::constraint(format!(
                    "transaction causes \"{}\" table to contain {n} rows, greater than the \
                     schema-defined limit of {} row(s)",
                    schema.name, schema.max_rows
                )));
            }
        }
        Ok(())
    }

    /// Removes weak references to rows that do not exist, from the rows that this transaction
    /// changed and from those that referred to rows it deleted.
    fn drop_dangling_weak(&mut self, db: &mut Database) -> Result<(), Error> {
        let mut suspects = Vec::new();
        for c in &self.changes {
            if c.new.is_some() && refs_changed(db, c.table, RefType::Weak, c) {
                suspects.push((c.table, c.uuid));
            }
            if c.new.is_none() {
                let from = (c.uuid, 0, Uuid::nil());
                let weak = db.tables[c.table]
                    .weak
                    .range(from..)
                    .take_while(|w| w.0 == c.uuid);
                suspects.extend(weak.map(|w| (w.1 as usize, w.2)));
            }
        }
        suspects.sort_unstable();
        suspects.dedup();
        for (t, u) in suspects {
            let Some(row) = db.tables[t].get(&u).cloned() else {
                continue;
            };
            let mut fixed: Option<Row> = None;
            for r in db.refs[t].iter().filter(|r| r.has(RefType::Weak)) {
                let d = row.field(r.column);
                let gone = |target: Option<(usize, RefType)>, a: &Atom| match target {
                    Some((t, RefType::Weak)) => {
                        a.as_uuid().is_some_and(|u| !db.tables[t].contains(&u))
                    }
                    _ => false,
                };
                let (kept, removed) = match d {
                    Datum::Map(pairs) => {
                        let (gone, kept): (Vec<_>, Vec<_>) = pairs
                            .iter()
                            .cloned()
                            .partition(|(k, v)| gone(r.key, k) || gone(r.value, v));
                        (
                            Datum::from_pairs(kept),
                            gone.into_iter().map(|p| p.0).collect(),
                        )
                    }
                    _ => {
                        let (gone, kept): (Vec<_>, Vec<_>) =
                            d.atoms().iter().cloned().partition(|a| gone(r.key, a));
                        (Datum::from_atoms(kept), gone)
                    }
                };
                let removed: Vec<Atom> = removed;
                if removed.is_empty() {
                    continue;
                }
                let column = &db.tables[t].schema.columns[r.column];
                if kept.len() < column.ty.min as usize {
                    let inserted = self.change(t, &u).is_some_and(|c| c.old.is_none());
                    return Err(empty_weak(
                        &column.name,
                        &db.tables[t].schema.name,
                        u,
                        inserted,
                        &removed,
                    ));
                }
                fixed.get_or_insert_with(|| row.next()).set(r.column, kept);
            }
            if let Some(row) = fixed {
                self.modify(db, t, row);
            }
        }
        Ok(())
    }

    fn check_indexes(&self, db: &Database) -> Result<(), Error> {
        for (at, c) in self.changes.iter().enumerate() {
            let Some(new) = &c.new else { continue };
            let table = &db.tables[c.table];
            for (i, columns) in table.schema.indexes.iter().enumerate() {
                if c.old.as_ref().is_some_and(|o| same_key(columns, o, new)) {
                    continue;
                }
                for other in table.duplicates(i, new) {
                    // Of two rows in this transaction the later one is reported.
                    let theirs = self.by_row.get(&(c.table, other.uuid)).copied();
                    let moved = |j: usize| {
                        let o = self.changes[j].old.as_ref();
                        o.is_none_or(|o| !same_key(columns, o, other))
                    };
                    if theirs.is_some_and(|j| j > at && moved(j)) {
                        continue;
                    }
                    return Err(self.duplicate(db, c.table, columns, new, other));
                }
            }
        }
        Ok(())
    }

    fn duplicate(&self, db: &Database, table: usize, columns: &[usize], a: &Row, b: &Row) -> Error {
        let schema = &db.tables[table].schema;
        let values = |row: &Row| {
            english_list(
                columns
                    .iter()
                    .map(|&c| row.get(c).to_text(&schema.columns[c].ty)),
            )
        };
        let names = english_list(
            columns
                .iter()
                .map(|&c| format!("\"{}\"", schema.columns[c].name)),
        );
        let describe = |row: &Row| match self.change(table, &row.uuid) {
            None => "existed in the database before this transaction and was not modified by the \
                     transaction"
                .to_owned(),
            Some(Change { old: None, .. }) => "was inserted by this transaction".to_owned(),
            Some(Change { old: Some(old), .. }) if same_key(columns, old, row) => {
                "existed in the database before this transaction, which modified some of the \
                 row's columns but not any columns in this index"
                    .to_owned()
            }
            Some(Change { old: Some(old), .. }) => format!(
                "had the following index value{} before the transaction: {}",
                if columns.len() == 1 { "" } else { "s" },
                values(old)
            ),
        };
        Error::constraint(format!(
            "Transaction causes multiple rows in \"{}\" table to have identical values ({}) for \
             index on column{} {names}.  First row, with UUID {}, {}.  Second row, with UUID {}, \
             {}.",
            schema.name,
            values(a),
            if columns.len() == 1 { "" } else { "s" },
            a.uuid,
            describe(a),
            b.uuid,
            describe(b)
        ))
    }
}

/// `a`, `a and b`, `a, b, and c`.
fn english_list(items: impl Iterator<Item = String>) -> String {
    let v: Vec<String> = items.collect();
    match v.as_slice() {
        [] => String::new(),
        [a] => a.clone(),
        [a, b] => format!("{a} and {b}"),
        [rest @ .., last] => format!("{}, and {last}", rest.join(", ")),
    }
}

fn empty_weak(column: &str, table: &str, row: Uuid, inserted: bool, removed: &[Atom]) -> Error {
    let place = format!(
        "column \"{column}\" in \"{table}\" row {row}{}",
        if inserted {
            " (inserted within this transaction)"
        } else {
            ""
        }
    );
    if removed
        .iter()
        .any(|a| a.as_uuid().is_some_and(|u| u.is_nil()))
    {
        return Error::constraint(format!(
            "Weak reference {place} contained all-zeros UUID (probably as the default value for \
             this column) but deleting this value caused a constraint volation because this \
             column is not allowed to be empty."
        ));
    }
    Error::constraint(format!(
        "Deletion of {} weak reference(s) to deleted (or never-existing) rows from {place} caused \
         this column to become empty, but constraints on this column disallow an empty column.",
        removed.len()
    ))
}

/// Brings the list of who refers weakly to whom up to date with a committed change.
fn relist_weak(db: &mut Database, c: &Change) {
    if !refs_changed(db, c.table, RefType::Weak, c) {
        return;
    }
    let targets = |row: Option<&Arc<Row>>| {
        let mut v = Vec::new();
        if let Some(row) = row {
            each_ref(db, c.table, row, RefType::Weak, |t, u, _| v.push((t, u)));
        }
        v.sort_unstable();
        v.dedup();
        v
    };
    let (old, new) = (targets(c.old.as_ref()), targets(c.new.as_ref()));
    let src = c.table as u32;
    for &(t, u) in old.iter().filter(|x| new.binary_search(x).is_err()) {
        db.tables[t].weak.remove(&(u, src, c.uuid));
    }
    for &(t, u) in new.iter().filter(|x| old.binary_search(x).is_err()) {
        db.tables[t].weak.insert((u, src, c.uuid));
    }
}
