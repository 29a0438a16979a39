//! `show`: an overview of the database as a tree.
//!
//! `--filter=TABLE(TEXT|TEXT...),...` leaves out the rows of the tables that it names, with all below
//! them, unless one of the texts is in what would be printed of the row. Letters' case does not count.

use super::{Context, Fail, Invocation, Outcome, Prepare, ShowTable, find_table};
use ferrovs_idl::{Database, Uuid};
use ferrovs_ovsdb::{ColumnType, Datum};
use std::collections::{BTreeMap, BTreeSet};

/// The texts of which a table's rows must have one, by the table's position.
type Filter = BTreeMap<usize, Vec<String>>;

/// Reads `--filter`. A text without a table is of the table at the top.
fn parse_filter(db: &Database, top: &str, text: &str) -> Result<Filter, Fail> {
    let mut filter = Filter::new();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (table, texts) = match part.split_once('(') {
            None => (top, part),
            Some((table, rest)) => match rest.strip_suffix(')') {
                Some(texts) => (table, texts),
                None => return Err("Malformed filter: missing closing ')'".into()),
            },
        };
        let texts = texts.split('|').filter(|t| !t.is_empty());
        let of_table = filter.entry(find_table(db, table)?).or_default();
        of_table.extend(texts.map(str::to_lowercase));
    }
    Ok(filter)
}

fn filter_of<E>(db: &Database, show: &[ShowTable], inv: &Invocation<E>) -> Result<Filter, Fail> {
    match (show.first(), inv.option("--filter")) {
        (Some(top), Some(text)) => parse_filter(db, top.table, text),
        _ => Ok(Filter::new()),
    }
}

pub(super) fn prepare<E>(p: &mut Prepare<'_>, _: &Invocation<E>) -> Outcome {
    let tables: Vec<ShowTable> = p.show.to_vec();
    for table in tables {
        p.need(table.table, table.columns);
        if let Some(name) = table.name {
            p.need(table.table, &[name]);
        }
    }
    Ok(())
}

pub(super) fn run<E>(ctx: &mut Context<'_, E>, inv: &mut Invocation<E>) -> Outcome {
    let Some(top) = ctx.spec.show.first() else {
        return Ok(());
    };
    let table = ctx.spec.db.table_index(top.table).unwrap_or_default();
    let filter = filter_of(ctx.spec.db, ctx.spec.show, inv)?;
    let mut walk = Walk {
        filter: &filter,
        open: BTreeSet::new(),
    };
    for row in ctx.view().uuids(table) {
        show_row(ctx, inv, &mut walk, top, table, row, 0);
    }
    Ok(())
}

struct Walk<'f> {
    filter: &'f Filter,
    /// Tables that the walk is inside of.
    open: BTreeSet<&'static str>,
}

/// Shows a row and what is below it, unless the filter leaves it out.
fn show_row<E>(
    ctx: &mut Context<'_, E>,
    inv: &mut Invocation<E>,
    walk: &mut Walk<'_>,
    show: &ShowTable,
    table: usize,
    row: Uuid,
    level: usize,
) {
    let begin = inv.output.len();
    show_tree(ctx, inv, walk, show, table, row, level);
    if let Some(texts) = walk.filter.get(&table) {
        let shown = inv.output[begin..].to_lowercase();
        if !texts.iter().any(|text| shown.contains(text)) {
            inv.output.truncate(begin);
        }
    }
}

fn show_tree<E>(
    ctx: &mut Context<'_, E>,
    inv: &mut Invocation<E>,
    walk: &mut Walk<'_>,
    show: &ShowTable,
    table: usize,
    row: Uuid,
    level: usize,
) {
    let def = &ctx.spec.db.tables[table];
    let indent = " ".repeat(4 * level);
    match show.name.and_then(|name| def.column_index(name)) {
        Some(name) => {
            let ty = def.columns[name].def.column_type();
            let text = ctx.view().get(table, row, name).to_text(&ty);
            inv.say(format_args!("{indent}{} {text}", show.table));
        }
        None => inv.say(format_args!("{indent}{row}")),
    }
    // A table inside itself would never end.
    if !walk.open.insert(show.table) {
        return;
    }
    let indent = " ".repeat(4 * (level + 1));
    for column in show
        .columns
        .iter()
        .filter_map(|name| def.column_index(name))
    {
        let ty = def.columns[column].def.column_type();
        let datum = ctx.view().get(table, row, column).clone();
        if let Some((to, _)) = ty.key.reference() {
            let shown = ctx.spec.show.iter().find(|s| s.table == to);
            if let (Some(shown), Some(to)) = (shown, ctx.spec.db.table_index(to)) {
                for uuid in datum.atoms().iter().filter_map(|a| a.as_uuid()) {
                    if ctx.view().exists(to, uuid) {
                        show_row(ctx, inv, walk, shown, to, uuid, level + 1);
                    }
                }
                continue;
            }
        }
        if show_map(ctx, inv, def.columns[column].name, &datum, &ty, level + 1) {
            continue;
        }
        if !datum.is_default(&ty) {
            inv.say(format_args!(
                "{indent}{}: {}",
                def.columns[column].name,
                datum.to_text(&ty)
            ));
        }
    }
    walk.open.remove(show.table);
}

/// Shows a map to rows of a shown table by their names; false if the column is no such map.
fn show_map<E>(
    ctx: &Context<'_, E>,
    inv: &mut Invocation<E>,
    column: &str,
    datum: &Datum,
    ty: &ColumnType,
    level: usize,
) -> bool {
    let db = ctx.spec.db;
    let to = ty.value.as_ref().and_then(|value| value.reference());
    let shown = to.and_then(|(to, _)| ctx.spec.show.iter().find(|s| s.table == to));
    let (Some(shown), Some(table)) = (shown, shown.and_then(|s| db.table_index(s.table))) else {
        return false;
    };
    let def = &db.tables[table];
    let Some(name) = shown.name.and_then(|name| def.column_index(name)) else {
        return false;
    };
    let name_type = def.columns[name].def.column_type();
    inv.say(format_args!("{}{column}:", " ".repeat(4 * level)));
    for (key, row) in datum.pairs() {
        let named = row.as_uuid().map(|row| ctx.view().get(table, row, name));
        let named = named.map_or_else(String::new, |n| n.to_text(&name_type));
        let indent = " ".repeat(4 * (level + 1));
        inv.say(format_args!("{indent}{}={named}", key.to_text()));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrovs_idl::open_vswitch::OPEN_VSWITCH;

    #[test]
    fn a_filter_names_tables_and_alternatives() {
        let parse = |text: &str| match parse_filter(&OPEN_VSWITCH, "Open_vSwitch", text) {
            Ok(filter) => Ok(filter
                .into_iter()
                .map(|(t, texts)| format!("{} {}", OPEN_VSWITCH.tables[t].name, texts.join(" ")))
                .collect::<Vec<_>>()
                .join("; ")),
            Err(Fail::Fatal(text)) => Err(text),
            Err(_) => Err(String::new()),
        };
        for (text, filter) in [
            ("", ""),
            ("x", "Open_vSwitch x"),
            ("Port(P1|p2)", "Port p1 p2"),
            ("port(p1),,port(|p2|)", "Port p1 p2"),
            ("interface((a))", "Interface (a)"),
            ("int()", "Interface "),
        ] {
            assert_eq!(parse(text), Ok(filter.to_string()), "{text}");
        }
        for (text, error) in [
            ("port(a", "Malformed filter: missing closing ')'"),
            ("port(a)x", "Malformed filter: missing closing ')'"),
            ("port(a,b)", "Malformed filter: missing closing ')'"),
            ("foo(a)", "unknown table \"foo\""),
            (
                "i(a)",
                "\"i\" matches multiple table names: IPFIX, Interface",
            ),
        ] {
            assert_eq!(parse(text), Err(error.to_string()), "{text}");
        }
    }
}
