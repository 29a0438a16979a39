//! Configuration that is kept in the databases themselves: `db:DB,TABLE,COLUMN` names a column that
//! holds remotes (or rows that describe remotes), or the name of a file.

use std::collections::BTreeMap;
use std::time::Duration;

use ferrovs_ovsdb::row::Row;
use ferrovs_ovsdb::server::Server;
use ferrovs_ovsdb::table::Table;
use ferrovs_ovsdb::{AtomType, Database, Datum, Uuid};
use ferrovs_runtime::vlog::modules::OVSDB_SERVER;
use ferrovs_runtime::vlog::{self, RateLimit};

/// How often the log says that a column is missing.
static LIMIT: RateLimit = RateLimit::new(1, 5);

/// A remote's options; what is not set has the default of its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub max_backoff: Option<Duration>,
    /// Zero turns probes off.
    pub probe_interval: Option<Duration>,
    pub dscp: Option<u8>,
    pub read_only: bool,
    /// Role of its clients for access control.
    pub role: String,
    /// Database, table and row that describe the remote and take its status.
    pub row: Option<(String, String, Uuid)>,
}

/// A column that the command line names, by positions.
pub struct Column<'a> {
    pub db: &'a Database,
    pub table: &'a Table,
    pub column: usize,
}

/// Finds the column of `db:DB,TABLE,COLUMN`.
pub fn parse_column<'a>(server: &'a Server, name: &str) -> Result<Column<'a>, String> {
    let rest = name.strip_prefix("db:").unwrap_or(name);
    let mut parts = rest.split(',').filter(|p| !p.is_empty());
    let (Some(db_name), Some(table_name), Some(column_name)) =
        (parts.next(), parts.next(), parts.next())
    else {
        return Err(format!("\"{name}\": invalid syntax\n"));
    };
    let Some(db) = server.db(db_name) else {
        return Err(format!("\"{name}\": no database named {db_name}\n"));
    };
    let db = db.database();
    let Some(table) = db.table(table_name) else {
        return Err(format!("\"{name}\": no table named {table_name}\n"));
    };
    let Some(column) = table.schema.column(column_name) else {
        return Err(format!(
            "\"{name}\": table \"{table_name}\" has no column \"{column_name}\"\n"
        ));
    };
    Ok(Column {
        db,
        table,
        column: column.index,
    })
}

/// True if the database is there and has no schema yet: a relay on its way.
pub fn is_pending(server: &Server, name: &str) -> bool {
    let rest = name.strip_prefix("db:").unwrap_or(name);
    let db = rest.split(',').next().and_then(|db| server.db(db));
    db.is_some_and(|db| !db.is_available())
}

/// Finds a column that must hold text.
pub fn parse_text_column<'a>(server: &'a Server, name: &str) -> Result<Column<'a>, String> {
    let c = parse_column(server, name)?;
    let column = &c.table.schema.columns[c.column];
    if column.ty.key.atom != AtomType::String || column.ty.is_map() {
        return Err(format!(
            "\"{name}\": table \"{}\" column \"{}\" is not string or set of strings\n",
            c.table.schema.name, column.name
        ));
    }
    Ok(c)
}

/// The first text that a column holds, for names of files.
pub fn text(server: &Server, name: &str) -> Option<String> {
    let c = parse_column(server, name).ok()?;
    let mut values = c.table.iter().flat_map(|r| {
        let texts = r.get(c.column);
        texts
            .atoms()
            .iter()
            .filter_map(|a| a.as_str().map(str::to_owned))
            .collect::<Vec<_>>()
    });
    values.find(|s| !s.is_empty())
}

/// All remotes that are wanted now, `db:` forms replaced by what they hold.
pub fn remotes(server: &Server, names: &BTreeMap<String, Options>) -> BTreeMap<String, Options> {
    let mut out = BTreeMap::new();
    for (name, options) in names {
        if !name.starts_with("db:") {
            out.insert(name.clone(), options.clone());
            continue;
        }
        let c = match parse_column(server, name) {
            Ok(c) => c,
            Err(_) if is_pending(server, name) => continue,
            Err(e) => {
                vlog::warn_rl!(LIMIT, OVSDB_SERVER, "{}", e.trim_end());
                continue;
            }
        };
        let column = &c.table.schema.columns[c.column];
        match (column.ty.key.atom, column.ty.key.reference()) {
            (AtomType::String, _) => {
                for row in c.table.iter() {
                    for a in row.get(c.column).atoms() {
                        if let Some(s) = a.as_str() {
                            out.insert(s.to_owned(), options.clone());
                        }
                    }
                }
            }
            (AtomType::Uuid, Some((target, _))) => {
                let Some(target) = c.db.table(target) else {
                    continue;
                };
                for row in c.table.iter() {
                    for id in row.get(c.column).keys().filter_map(|a| a.as_uuid()) {
                        if let Some(r) = target.get(&id) {
                            out.extend(described(c.db, target, r, options));
                        }
                    }
                }
            }
            _ => {}
        }
    }
    out
}

fn get<'a>(table: &Table, row: &'a Row, column: &str) -> Option<&'a Datum> {
    let c = table.schema.column(column)?;
    (c.index >= ferrovs_ovsdb::schema::STANDARD_COLUMNS).then(|| row.field(c.index))
}

/// The remote that a row such as one of Manager describes.
/// `base` holds for what the row does not say.
fn described(db: &Database, table: &Table, row: &Row, base: &Options) -> Option<(String, Options)> {
    let target = get(table, row, "target")?
        .as_str()
        .filter(|t| !t.is_empty())?;
    let number = |column| get(table, row, column).and_then(Datum::as_integer);
    let millis = |n: i64| Duration::from_millis(n.clamp(0, i64::from(i32::MAX)) as u64);
    let dscp = get(table, row, "other_config").and_then(|d| d.get_str("dscp"));
    Some((
        target.to_owned(),
        Options {
            max_backoff: number("max_backoff").map(millis).or(base.max_backoff),
            probe_interval: number("inactivity_probe")
                .map(millis)
                .or(base.probe_interval),
            dscp: dscp
                .and_then(|s| s.parse().ok())
                .filter(|d| *d < 64)
                .or(base.dscp),
            read_only: get(table, row, "read_only")
                .and_then(Datum::as_bool)
                .unwrap_or(base.read_only),
            role: get(table, row, "role")
                .and_then(Datum::as_str)
                .unwrap_or(&base.role)
                .to_owned(),
            row: Some((db.name().to_owned(), table.schema.name.clone(), row.uuid)),
        },
    ))
}
