//! Finding what the user names: tables and columns by abbreviation, records by UUID or name.

use super::{ColumnRef, Context, Fail, RecordName};
use ferrovs_idl::schema::TableDef;
use ferrovs_idl::{Database, Uuid};
use ferrovs_ovsdb::uuid;

/// Case does not count, nor does the difference between '-' and '_'.
fn fold(c: u8) -> u8 {
    match c {
        b'-' => b'_',
        c => c.to_ascii_lowercase(),
    }
}

/// How well `word` names `name`: not at all, as an abbreviation (longer is better), or exactly.
fn score(name: &str, word: &str) -> usize {
    if name == word {
        return usize::MAX;
    }
    let matching = name
        .bytes()
        .zip(word.bytes())
        .take_while(|&(a, b)| fold(a) == fold(b))
        .count();
    if matching < word.len() {
        0
    } else if matching == name.len() {
        usize::MAX - 1
    } else {
        matching
    }
}

/// The best match of `word`: `Err` holds all matches if several are equally good.
fn best<'a>(
    names: impl Iterator<Item = &'a str>,
    word: &str,
) -> Result<Option<usize>, Vec<&'a str>> {
    let (mut top, mut found, mut rivals) = (0, None, Vec::new());
    for (i, name) in names.enumerate() {
        let score = score(name, word);
        if score > top {
            (top, found, rivals) = (score, Some(i), vec![name]);
        } else if score == top && score > 0 {
            rivals.push(name);
        }
    }
    if rivals.len() > 1 {
        Err(rivals)
    } else {
        Ok(found)
    }
}

/// The position of the table that `word` names.
pub fn find_table(db: &Database, word: &str) -> Result<usize, Fail> {
    match best(db.tables.iter().map(|t| t.name), word) {
        Ok(Some(table)) => Ok(table),
        Ok(None) => Err(format!("unknown table \"{word}\"").into()),
        Err(mut rivals) => {
            rivals.sort_unstable();
            Err(format!(
                "\"{word}\" matches multiple table names: {}",
                rivals.join(", ")
            )
            .into())
        }
    }
}

/// The column that `word` names. `_uuid` is none: commands that take it look for it themselves.
pub fn find_column(table: &'static TableDef, word: &str) -> Result<ColumnRef, Fail> {
    match best(table.columns.iter().map(|c| c.name), word) {
        Ok(Some(i)) => Ok(ColumnRef::At(i)),
        Ok(None) => Err(format!(
            "{} does not contain a column whose name matches \"{word}\"",
            table.name
        )
        .into()),
        Err(rivals) => Err(format!(
            "{} contains more than one column whose name matches \"{word}\": {}",
            table.name,
            rivals.join(", ")
        )
        .into()),
    }
}

/// The record that `word` names; `None` if there is none.
pub fn find_row<E>(
    ctx: &mut Context<'_, E>,
    table: usize,
    word: &str,
) -> Result<Option<Uuid>, Fail> {
    if let Some(uuid) = uuid::parse(word).filter(|&uuid| ctx.view().exists(table, uuid)) {
        return Ok(Some(uuid));
    }
    let name = ctx.spec.db.tables[table].name;
    for (_, how) in ctx.spec.names.iter().filter(|(of, _)| *of == name) {
        if let Some(uuid) = find_by(ctx, table, *how, word)? {
            return Ok(Some(uuid));
        }
    }
    if word == "." {
        // The row of a table that has one.
        let rows = ctx.view().uuids(table);
        return Ok((rows.len() == 1).then(|| rows[0]));
    }
    if word.len() >= 4 && uuid::is_partial(word) {
        let word = word.to_ascii_lowercase();
        let uuids = ctx.view().uuids(table);
        let mut matches = uuids
            .into_iter()
            .filter(|u| u.to_string().starts_with(&word));
        let first = matches.next();
        if matches.next().is_some() {
            return Err(format!("multiple rows in {name} match \"{word}\"").into());
        }
        return Ok(first);
    }
    Ok(None)
}

/// Like [`find_row`], but no such record is an error unless `optional`.
pub(super) fn require_row<E>(
    ctx: &mut Context<'_, E>,
    table: usize,
    word: &str,
    optional: bool,
) -> Result<Option<Uuid>, Fail> {
    match find_row(ctx, table, word)? {
        None if !optional => {
            let table = ctx.spec.db.tables[table].name;
            Err(format!("no row \"{word}\" in table {table}").into())
        }
        found => Ok(found),
    }
}

fn find_by<E>(
    ctx: &mut Context<'_, E>,
    table: usize,
    how: RecordName,
    word: &str,
) -> Result<Option<Uuid>, Fail> {
    let db = ctx.spec.db;
    let index = |name: &str| db.table_index(name).unwrap_or_default();
    let (in_table, name, refers) = match how {
        RecordName::Singleton => {
            let rows = ctx.view().uuids(table);
            return Ok(if word == "." && rows.len() == 1 {
                Some(rows[0])
            } else {
                None
            });
        }
        RecordName::ViaSingleton { table: of, column } => {
            let of = index(of);
            let rows = ctx.view().uuids(of);
            let column = db.tables[of].column_index(column).unwrap_or_default();
            let only = if word == "." && rows.len() == 1 {
                Some(rows[0])
            } else {
                None
            };
            return Ok(only.and_then(|row| ctx.view().get(of, row, column).as_uuid()));
        }
        RecordName::Column(column) => (table, column, None),
        RecordName::Via {
            table: of,
            name,
            column,
        } => (index(of), name, Some(column)),
    };
    let def = &db.tables[in_table];
    let name_at = def.column_index(name).unwrap_or_default();
    let refers = refers.and_then(|column| def.column_index(column));
    let view = ctx.view();
    let mut found: Option<Uuid> = None;
    for row in view.uuids(in_table) {
        let named = view
            .get(in_table, row, name_at)
            .scalar()
            .is_some_and(|a| match a.as_str() {
                Some(text) => text == word || abbreviates(word, text),
                None => a.to_bare() == word,
            });
        if !named {
            continue;
        }
        if found.is_some() {
            return Err(format!("multiple rows in {} match \"{word}\"", def.name).into());
        }
        found = Some(row);
    }
    Ok(match (found, refers) {
        (Some(row), Some(column)) => view.get(in_table, row, column).as_uuid(),
        (found, _) => found,
    })
}

/// Names that look like UUIDs may be cut short as those may.
fn abbreviates(word: &str, name: &str) -> bool {
    word.len() >= 4 && name.starts_with(word) && uuid::parse(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrovs_idl::open_vswitch::OPEN_VSWITCH;

    #[test]
    fn unambiguous_abbreviations_name_tables_and_columns() {
        let table = |word| find_table(&OPEN_VSWITCH, word).map(|t| OPEN_VSWITCH.tables[t].name);
        assert_eq!(table("br").ok(), Some("Bridge"));
        assert_eq!(table("o").ok(), Some("Open_vSwitch"));
        assert_eq!(table("open-v").ok(), Some("Open_vSwitch"));
        assert!(table("q").is_err(), "QoS and Queue");
        assert!(table("foo").is_err());
        let port = OPEN_VSWITCH.table("Port").unwrap();
        assert!(find_column(port, "external-ids").is_ok());
        assert!(find_column(port, "_uuid").is_err());
        let Err(Fail::Fatal(text)) = find_column(port, "t") else {
            panic!()
        };
        assert!(text.ends_with("matches \"t\": tag, trunks"));
    }
}
