//! Which rows of a table the replica holds: conditions of conditional monitoring.
//!
//! A [`Condition`] is a list of clauses of which one must hold (ovsdb-server(7), 4.1.12). A
//! condition of a column that the server's schema lacks is decided here, with the column's default,
//! just as reading such a column gives its default.
//!
//! A new condition is sent as soon as the server can take it, and the server answers when all rows
//! that it adds or takes away have been told. [`Request`] keeps the three stages of a table apart:
//! what the server acknowledged, what is on its way, and what its owner asked for since. Stages are
//! counted over all tables together: [`crate::Idl::set_condition`] returns the number that
//! [`crate::Idl::condition_seqno`] will have reached when the replica shows the new condition.

use crate::kind::IntoDatum;
use crate::schema::{Column, Table, TableDef};
use ferrovs_ovsdb::{ColumnType, Datum, Uuid};
use ferrovs_stream::json::Value;

pub use ferrovs_ovsdb::condition::Function;

/// `[column, function, argument]`, or a constant.
#[derive(Clone, Debug, PartialEq)]
pub struct Clause {
    /// The column's position; `None` is `_uuid`.
    pub column: Option<usize>,
    pub function: Function,
    pub arg: Datum,
}

/// Clauses of which one must hold. The default matches every row.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    clauses: Vec<Clause>,
}

impl Default for Condition {
    fn default() -> Condition {
        Condition::all()
    }
}

impl Condition {
    /// Every row.
    pub fn all() -> Condition {
        Condition {
            clauses: vec![Clause {
                column: None,
                function: Function::True,
                arg: Datum::Empty,
            }],
        }
    }

    /// No row; the start of a list of clauses.
    pub fn none() -> Condition {
        Condition {
            clauses: Vec::new(),
        }
    }

    pub fn is_all(&self) -> bool {
        self.clauses.iter().any(|c| c.function == Function::True)
    }

    /// Adds rows for which `clause` holds.
    pub fn or_clause(mut self, clause: Clause) -> Condition {
        match clause.function {
            Function::True => return Condition::all(),
            Function::False => {}
            _ if self.is_all() || self.clauses.contains(&clause) => {}
            _ => self.clauses.push(clause),
        }
        self
    }

    /// Adds rows whose column compares to `value` so.
    pub fn or<T: Table, K>(
        self,
        column: Column<T, K>,
        function: Function,
        value: impl IntoDatum<K>,
    ) -> Condition {
        self.or_clause(Clause {
            column: Some(column.index()),
            function,
            arg: value.into_datum(),
        })
    }

    /// Adds one row.
    pub fn or_row(self, uuid: Uuid) -> Condition {
        self.or_clause(Clause {
            column: None,
            function: Function::Eq,
            arg: Datum::from(ferrovs_ovsdb::Atom::Uuid(uuid)),
        })
    }

    pub fn clauses(&self) -> &[Clause] {
        &self.clauses
    }

    /// As the server takes it; `present` says which columns it has.
    pub(crate) fn to_json(
        &self,
        def: &TableDef,
        types: &[ColumnType],
        defaults: &[Datum],
        present: &[bool],
    ) -> Value {
        let mut json = Vec::new();
        for clause in &self.clauses {
            let (name, arg) = match clause.column {
                _ if clause.function == Function::True => return Value::Array(vec![true.into()]),
                None => {
                    let uuid = clause.arg.as_uuid().unwrap_or_default();
                    (
                        "_uuid",
                        Value::Array(vec!["uuid".into(), uuid.to_string().into()]),
                    )
                }
                Some(i) if !present[i] => {
                    if clause.matches(&defaults[i]) {
                        return Value::Array(vec![true.into()]);
                    }
                    continue;
                }
                Some(i) => (def.columns[i].name, clause.arg.to_json(&types[i])),
            };
            let clause = vec![name.into(), clause.function.name().into(), arg];
            json.push(Value::Array(clause));
        }
        if json.is_empty() {
            json.push(false.into());
        }
        Value::Array(json)
    }
}

impl Clause {
    /// Whether the clause holds for a column that holds `datum`.
    pub fn matches(&self, datum: &Datum) -> bool {
        match self.function {
            Function::True => true,
            Function::False => false,
            Function::Eq => *datum == self.arg,
            Function::Ne => *datum != self.arg,
            Function::Includes => datum.includes_all(&self.arg),
            Function::Excludes => datum.excludes_all(&self.arg),
            function => match (datum.scalar(), self.arg.scalar()) {
                (Some(a), Some(b)) => match function {
                    Function::Lt => a < b,
                    Function::Le => a <= b,
                    Function::Gt => a > b,
                    _ => a >= b,
                },
                _ => false,
            },
        }
    }
}

/// A table's condition on its way to the server.
#[derive(Default)]
pub(crate) struct Request {
    acked: Condition,
    in_flight: Option<Condition>,
    fresh: Option<Condition>,
}

impl Request {
    /// What the owner asked for last.
    pub fn newest(&self) -> &Condition {
        self.fresh
            .as_ref()
            .or(self.in_flight.as_ref())
            .unwrap_or(&self.acked)
    }

    /// What the server knows for sure.
    pub fn acked(&self) -> &Condition {
        &self.acked
    }

    pub fn set(&mut self, condition: Condition) {
        if *self.newest() != condition {
            self.fresh = Some(condition);
        }
    }

    pub fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    pub fn is_fresh(&self) -> bool {
        self.fresh.is_some()
    }

    /// Takes what is to be sent.
    pub fn send(&mut self) -> Option<&Condition> {
        self.in_flight = Some(self.fresh.take()?);
        self.in_flight.as_ref()
    }

    /// The server has done what was sent.
    pub fn ack(&mut self) {
        if let Some(condition) = self.in_flight.take() {
            self.acked = condition;
        }
    }

    /// The newest condition goes with the request for the whole contents.
    pub fn fold(&mut self) {
        self.acked = self.newest().clone();
        self.in_flight = None;
        self.fresh = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open_vswitch::{Bridge, Interface};

    fn json(condition: &Condition, def: &TableDef, present: bool) -> String {
        let types: Vec<ColumnType> = def.columns.iter().map(|c| c.def.column_type()).collect();
        let defaults: Vec<Datum> = types.iter().map(ColumnType::default_datum).collect();
        let present = vec![present; types.len()];
        condition
            .to_json(def, &types, &defaults, &present)
            .to_string()
    }

    #[test]
    fn clauses_are_written_as_the_server_reads_them() {
        let condition = Condition::none()
            .or(Bridge::NAME, Function::Eq, "br0")
            .or(Bridge::EXTERNAL_IDS, Function::Includes, [("k", "v")])
            .or_row(Uuid::nil());
        assert_eq!(
            json(&condition, Bridge::def(), true),
            r#"[["name","==","br0"],["external_ids","includes",["map",[["k","v"]]]],["_uuid","==",["uuid","00000000-0000-0000-0000-000000000000"]]]"#
        );
        let condition = Condition::none().or(Interface::OFPORT, Function::Ge, Some(7));
        assert_eq!(
            json(&condition, Interface::def(), true),
            r#"[["ofport",">=",7]]"#
        );
        assert_eq!(json(&Condition::none(), Bridge::def(), true), "[false]");
        assert_eq!(json(&Condition::all(), Bridge::def(), true), "[true]");
    }

    #[test]
    fn a_column_that_the_server_lacks_is_judged_by_its_default() {
        let with = |f| Condition::none().or(Bridge::FLOOD_VLANS, f, [5i64]);
        assert_eq!(
            json(&with(Function::Includes), Bridge::def(), false),
            "[false]"
        );
        assert_eq!(
            json(&with(Function::Excludes), Bridge::def(), false),
            "[true]"
        );
    }

    #[test]
    fn true_swallows_other_clauses_and_false_adds_none() {
        let name = Condition::none().or(Bridge::NAME, Function::Eq, "br0");
        let constant = |function| Clause {
            column: None,
            function,
            arg: Datum::Empty,
        };
        assert_eq!(
            name.clone().or_clause(constant(Function::True)),
            Condition::all()
        );
        assert_eq!(name.clone().or_clause(constant(Function::False)), name);
        assert_eq!(
            Condition::all().or(Bridge::NAME, Function::Eq, "x"),
            Condition::all()
        );
    }
}
