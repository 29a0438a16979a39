//! `COLUMN`, `COLUMN:KEY`, `COLUMN=VALUE`, `COLUMN:KEY<VALUE`: reading and evaluating them.

use super::{Context, Fail, Outcome, find_column};
use crate::table::Cell;
use ferrovs_idl::schema::TableDef;
use ferrovs_idl::{Database, Uuid, View};
use ferrovs_ovsdb::datum::token;
use ferrovs_ovsdb::{Atom, AtomType, ColumnType, Datum};
use std::cmp::Ordering;

/// A column: one that the schema declares, or `_uuid`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ColumnRef {
    Uuid,
    At(usize),
}

impl ColumnRef {
    /// Its position, unless it is `_uuid`.
    pub fn position(self) -> Option<usize> {
        match self {
            ColumnRef::Uuid => None,
            ColumnRef::At(i) => Some(i),
        }
    }

    pub fn name(self, table: &TableDef) -> &'static str {
        match self {
            ColumnRef::Uuid => "_uuid",
            ColumnRef::At(i) => table.columns[i].name,
        }
    }

    pub fn column_type(self, table: &TableDef) -> ColumnType {
        match self {
            ColumnRef::Uuid => ColumnType::scalar(AtomType::Uuid),
            ColumnRef::At(i) => table.columns[i].def.column_type(),
        }
    }

    pub fn value(self, view: View<'_>, table: usize, row: Uuid) -> Datum {
        match self {
            ColumnRef::Uuid => Datum::from(Atom::Uuid(row)),
            ColumnRef::At(i) => view.get(table, row, i).clone(),
        }
    }

    pub fn cell(self, db: &Database, view: View<'_>, table: usize, row: Uuid) -> Cell {
        Cell::Datum(
            self.value(view, table, row),
            self.column_type(&db.tables[table]),
        )
    }

    /// The position, if commands may change the column.
    pub fn writable(self, table: &TableDef) -> Result<usize, Fail> {
        match self {
            ColumnRef::At(i) if table.columns[i].def.mutable => Ok(i),
            _ => Err(format!(
                "cannot modify read-only column {} in table {}",
                self.name(table),
                table.name
            )
            .into()),
        }
    }
}

/// An argument that names a column and perhaps a key.
pub(super) struct Named<'a> {
    pub column: ColumnRef,
    pub key: Option<String>,
    /// What follows.
    pub rest: &'a str,
}

/// Reads `COLUMN[:KEY]` off the front of an argument.
pub(super) fn parse_column_key<'a>(
    table: &'static TableDef,
    arg: &'a str,
) -> Result<Named<'a>, Fail> {
    let (name, n) = token(arg)?;
    if n == 0 {
        return Err(format!("{arg}: missing column name").into());
    }
    let name = unquote(&name)?;
    let column = find_column(table, &name)?;
    let rest = &arg[n..];
    let (key, rest) = match rest.strip_prefix(':') {
        Some(after) => {
            let (key, n) = token(after)?;
            (Some(key), &after[n..])
        }
        None => (None, rest),
    };
    Ok(Named { column, key, rest })
}

/// A token's text, its quotes removed.
fn unquote(token: &str) -> Result<String, Fail> {
    let base = ferrovs_ovsdb::BaseType::plain(AtomType::String);
    let atom = Atom::from_text(&base, token, None)?;
    Ok(atom.as_str().unwrap_or_default().to_string())
}

/// Operators that conditions know, longest first where one begins another.
const OPERATORS: [&str; 14] = [
    "{not-in}", "{in}", "{!=}", "{<=}", "{>=}", "{=}", "{<}", "{>}", "!=", "<=", ">=", "=", "<",
    ">",
];

const OPERATOR_LIST: &str = "\"=\", \"!=\", \"<\", \">\", \"<=\", \">=\", \"{=}\", \"{!=}\", \
     \"{<}\", \"{>}\", \"{<=}\", \"{>=}\", \"{in}\", or \"{not-in}\"";

/// `COLUMN[:KEY]OPERATOR VALUE`.
pub(super) struct Assignment<'a> {
    pub column: ColumnRef,
    pub key: Option<String>,
    pub operator: &'static str,
    pub value: &'a str,
}

pub(super) fn parse_assignment<'a>(
    table: &'static TableDef,
    arg: &'a str,
    conditions: bool,
) -> Result<Assignment<'a>, Fail> {
    let named = parse_column_key(table, arg)?;
    let mut operators = OPERATORS.iter().filter(|o| conditions || **o == "=");
    let found = operators.find_map(|o| Some((*o, named.rest.strip_prefix(o)?)));
    match found {
        Some((operator, value)) if !value.is_empty() => Ok(Assignment {
            column: named.column,
            key: named.key,
            operator,
            value,
        }),
        _ => {
            let list = if conditions { OPERATOR_LIST } else { "\"=\"" };
            Err(format!("{arg}: argument does not end in {list} followed by a value.").into())
        }
    }
}

/// Applies `COLUMN[:KEY]=VALUE` to a row.
pub fn set_column<E>(ctx: &mut Context<'_, E>, table: usize, row: Uuid, arg: &str) -> Outcome {
    let def = &ctx.spec.db.tables[table];
    let assignment = parse_assignment(def, arg, false)?;
    let ty = assignment.column.column_type(def);
    // A row that does not exist yet may be given what later cannot change.
    let position = match assignment.column {
        ColumnRef::At(i) if ctx.txn.is_inserted(table, row) => i,
        column => column.writable(def)?,
    };
    match assignment.key {
        Some(key) => {
            let Some(value_type) = &ty.value else {
                return Err(format!(
                    "cannot specify key to set for non-map column {}",
                    def.columns[position].name
                )
                .into());
            };
            let key = Atom::from_text(&ty.key, &key, Some(ctx.symbols))?;
            let value = Atom::from_text(value_type, assignment.value, Some(ctx.symbols))?;
            let pair = Datum::from_pairs(vec![(key, value)]);
            ctx.txn.put(ctx.idl, table, row, position, &pair);
        }
        None => {
            let datum = Datum::from_text(&ty, assignment.value, Some(ctx.symbols))?;
            ctx.txn.write(table, row, position, datum);
        }
    }
    ctx.touched.push((table, Some(position)));
    Ok(())
}

/// Whether a row meets a condition.
pub(super) fn is_condition_satisfied<E>(
    ctx: &mut Context<'_, E>,
    table: usize,
    row: Uuid,
    arg: &str,
) -> Result<bool, Fail> {
    let def = &ctx.spec.db.tables[table];
    let condition = parse_assignment(def, arg, true)?;
    let ty = condition.column.column_type(def);
    let have = condition.column.value(ctx.view(), table, row);
    let Some(key) = condition.key else {
        let want = Datum::from_text(&ty, condition.value, Some(ctx.symbols))?;
        return Ok(evaluate(&have, condition.operator, &want));
    };
    let Some(value_type) = &ty.value else {
        return Err(format!(
            "cannot specify key to check for non-map column {}",
            condition.column.name(def)
        )
        .into());
    };
    let key = Atom::from_text(&ty.key, &key, Some(ctx.symbols))?;
    let value_column = ColumnType {
        key: value_type.clone(),
        value: None,
        min: 0,
        max: ferrovs_ovsdb::types::UNLIMITED,
    };
    let want = Datum::from_text(&value_column, condition.value, Some(ctx.symbols))?;
    // Set operators treat a missing key as the empty set; the others are false without the key.
    let have = match have.get(&key) {
        Some(value) => Datum::from(value.clone()),
        None if condition.operator.starts_with('{') => Datum::Empty,
        None => return Ok(false),
    };
    Ok(evaluate(&have, condition.operator, &want))
}

fn evaluate(have: &Datum, operator: &str, want: &Datum) -> bool {
    let order = || have.cmp(want);
    match operator {
        "=" | "{=}" => have == want,
        "!=" | "{!=}" => have != want,
        "<" => order() == Ordering::Less,
        ">" => order() == Ordering::Greater,
        "<=" => order() != Ordering::Greater,
        ">=" => order() != Ordering::Less,
        "{<}" => have.len() < want.len() && want.includes_all(have),
        "{>}" => have.len() > want.len() && have.includes_all(want),
        "{<=}" | "{in}" => want.includes_all(have),
        "{>=}" => have.includes_all(want),
        _ => want.excludes_all(have),
    }
}
