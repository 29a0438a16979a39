//! What commands need of the database: columns, and the rows of which they need them.
//!
//! A command that names its records needs those rows alone, however many the table has. What it
//! cannot do with them (an error most of all) it tries again with all rows, so what it says is
//! always said of the whole.

use super::{Fail, Outcome, RecordName, ShowTable, Spec, find_column, find_table};
use ferrovs_idl::condition::{Clause, Condition, Function};
use ferrovs_idl::kind::IntoDatum;
use ferrovs_idl::{Atom, AtomType, Column, Database, Datum, Idl, Table};
use ferrovs_ovsdb::uuid;

/// With more clauses than that a table is wanted whole: the server tries each on every row.
const MANY_CLAUSES: usize = 16;

/// Collects what commands need.
pub struct Prepare<'a> {
    pub idl: &'a mut Idl,
    pub db: &'static Database,
    pub show: &'static [ShowTable],
    names: &'static [(&'static str, RecordName)],
    /// The rows that are needed of each table; none of those that no command speaks of.
    rows: Vec<Condition>,
    /// All rows of all tables are needed.
    whole: bool,
}

impl<'a> Prepare<'a> {
    pub fn new<E>(idl: &'a mut Idl, spec: &Spec<E>) -> Prepare<'a> {
        Prepare {
            idl,
            db: spec.db,
            show: spec.show,
            names: spec.names,
            rows: vec![Condition::none(); spec.db.tables.len()],
            whole: false,
        }
    }

    /// Needs columns of all rows of a table, by their exact names. A command that does may warn, which
    /// it must not do twice: with it nothing is tried without all rows of all tables.
    pub fn need(&mut self, table: &str, columns: &[&str]) {
        self.whole = true;
        self.need_all(table, columns);
    }

    /// The same for a command that does not warn.
    pub fn need_all(&mut self, table: &str, columns: &[&str]) {
        if let Some(t) = self.need_columns(table, columns) {
            self.rows[t] = Condition::all();
        }
    }

    /// Needs columns of those rows that are needed anyhow. Returns the table.
    pub fn need_columns(&mut self, table: &str, columns: &[&str]) -> Option<usize> {
        let t = self.db.table_index(table)?;
        self.idl.monitor_rows(t);
        for column in columns {
            if let Some(c) = self.db.tables[t].column_index(column) {
                self.idl.monitor_column(t, c);
            }
        }
        Some(t)
    }

    /// Needs the rows whose column holds a value.
    pub fn need_rows<T: Table, K>(&mut self, column: Column<T, K>, value: impl IntoDatum<K>) {
        self.need_where(T::INDEX, column.index(), value.into_datum());
    }

    fn need_where(&mut self, table: usize, column: usize, value: Datum) {
        self.idl.monitor_column(table, column);
        let rows = std::mem::replace(&mut self.rows[table], Condition::all());
        if rows.clauses().len() < MANY_CLAUSES {
            self.rows[table] = rows.or_clause(Clause {
                column: Some(column),
                function: Function::Eq,
                arg: value,
            });
        }
    }

    /// Needs a table that the user named, and what its records are named by.
    pub fn need_table(&mut self, name: &str) -> Result<usize, Fail> {
        let t = find_table(self.db, name)?;
        let table = self.db.tables[t].name;
        self.need_all(table, &[]);
        for (_, how) in self.names.iter().filter(|(of, _)| *of == table) {
            match *how {
                RecordName::Singleton => {}
                RecordName::Column(column) => self.need_all(table, &[column]),
                RecordName::Via {
                    table,
                    name,
                    column,
                } => self.need_all(table, &[name, column]),
                RecordName::ViaSingleton { table, column } => self.need_all(table, &[column]),
            }
        }
        Ok(t)
    }

    /// Needs a record of a table, as the user named both.
    pub fn need_record(&mut self, name: &str, record: &str) -> Result<usize, Fail> {
        let t = find_table(self.db, name)?;
        let def = &self.db.tables[t];
        let mut names = self.names.iter().filter(|(of, _)| *of == def.name);
        // "." and what may be (the beginning of) a UUID name a row by more than its name.
        let by_name = record != "." && !(record.len() >= 4 && uuid::is_partial(record));
        let column = match (names.next(), names.next()) {
            (Some((_, RecordName::Column(column))), None) if by_name => def.column_index(column),
            _ => None,
        };
        let Some(column) = column.filter(|&c| {
            let ty = def.columns[c].def.column_type();
            ty.is_scalar() && ty.key.atom == AtomType::String
        }) else {
            return self.need_table(name);
        };
        self.idl.monitor_rows(t);
        self.need_where(t, column, Datum::from(Atom::string(record)));
        Ok(t)
    }

    /// Needs a column that the user named.
    pub fn need_column(&mut self, table: usize, name: &str) -> Outcome {
        if let Some(column) = find_column(&self.db.tables[table], name)?.position() {
            self.idl.monitor_column(table, column);
        }
        Ok(())
    }

    /// Has the replica hold the rows that are needed. Whether others are left out.
    pub fn restrict(self) -> bool {
        let mut partial = false;
        for (table, rows) in self.rows.into_iter().enumerate() {
            if !self.whole && self.idl.is_table_monitored(table) {
                partial |= !rows.is_all();
                self.idl.set_table_condition(table, rows);
            }
        }
        partial
    }
}

/// Has the replica hold all rows. Returns what [`Idl::condition_seqno`] will be once it does.
pub(super) fn widen(idl: &mut Idl) -> u64 {
    let tables = 0..idl.database().tables.len();
    tables
        .map(|table| idl.set_table_condition(table, Condition::all()))
        .max()
        .unwrap_or_default()
}
