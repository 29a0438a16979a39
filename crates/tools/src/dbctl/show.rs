//! `show`: an overview of the database as a tree.

use super::{Context, Invocation, Outcome, Prepare, ShowTable};
use ferrovs_idl::Uuid;
use ferrovs_ovsdb::{ColumnType, Datum};
use std::collections::BTreeSet;

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
    for row in ctx.view().uuids(table) {
        show_row(ctx, inv, top, table, row, 0, &mut BTreeSet::new());
    }
    Ok(())
}

fn show_row<E>(
    ctx: &mut Context<'_, E>,
    inv: &mut Invocation<E>,
    show: &ShowTable,
    table: usize,
    row: Uuid,
    level: usize,
    open: &mut BTreeSet<&'static str>,
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
    if !open.insert(show.table) {
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
                        show_row(ctx, inv, shown, to, uuid, level + 1, open);
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
    open.remove(show.table);
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
