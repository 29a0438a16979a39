//! The generic commands.

use super::columns::{ColumnRef, is_condition_satisfied, parse_column_key, set_column};
use super::lookup::{find_table, require_row};
use super::{Command, Context, Fail, Invocation, MANY, Outcome, Prepare, find_column, show};
use crate::table::Table;
use ferrovs_idl::{Txn, Uuid};
use ferrovs_ovsdb::{Atom, ColumnType, Datum};
use ferrovs_runtime::vlog::{self, modules};

type PrepareFn<E> = fn(&mut Prepare<'_>, &Invocation<E>) -> Outcome;
type RunFn<E> = fn(&mut Context<'_, E>, &mut Invocation<E>) -> Outcome;

/// A command that changes nothing and takes any number of arguments from `min_args` on.
const fn read<E: 'static>(
    name: &'static str,
    min_args: usize,
    usage: &'static str,
    options: &'static [&'static str],
    prepare: PrepareFn<E>,
    run: RunFn<E>,
) -> Command<E> {
    Command {
        name,
        min_args,
        max_args: MANY,
        usage,
        options,
        prepare,
        run,
        finish: None,
        writes: false,
    }
}

/// The same for one that changes something.
const fn write<E: 'static>(
    name: &'static str,
    min_args: usize,
    usage: &'static str,
    options: &'static [&'static str],
    prepare: PrepareFn<E>,
    run: RunFn<E>,
) -> Command<E> {
    Command {
        writes: true,
        ..read(name, min_args, usage, options, prepare, run)
    }
}

/// The generic commands, as a group of a tool's command table.
pub const fn generic<E: 'static>() -> [Command<E>; 11] {
    [
        read("comment", 0, "*ARG", &[], |_, _| Ok(()), |_, _| Ok(())),
        read(
            "get",
            2,
            "!TABLE !RECORD *COLUMN?:KEY",
            &["--if-exists", "--id="],
            prepare_get,
            get,
        ),
        read(
            "list",
            1,
            "!TABLE *RECORD",
            &["--if-exists", "--columns="],
            prepare_list,
            list,
        ),
        read(
            "find",
            1,
            "!TABLE *COLUMN?:KEY=VALUE",
            &["--columns="],
            prepare_find,
            find,
        ),
        write(
            "set",
            3,
            "!TABLE !RECORD +COLUMN?:KEY=VALUE",
            &["--if-exists"],
            prepare_set,
            set,
        ),
        write(
            "add",
            4,
            "!TABLE !RECORD !COLUMN +?KEY=VALUE",
            &["--if-exists"],
            prepare_one_column,
            add,
        ),
        write(
            "remove",
            4,
            "!TABLE !RECORD !COLUMN +KEY|VALUE|KEY=VALUE",
            &["--if-exists"],
            prepare_one_column,
            remove,
        ),
        write(
            "clear",
            3,
            "!TABLE !RECORD +COLUMN",
            &["--if-exists"],
            prepare_clear,
            clear,
        ),
        Command {
            finish: Some(finish_create),
            ..write(
                "create",
                2,
                "!TABLE +COLUMN?:KEY=VALUE",
                &["--id="],
                prepare_create,
                create,
            )
        },
        write(
            "destroy",
            1,
            "!TABLE *RECORD",
            &["--if-exists", "--all"],
            prepare_destroy,
            destroy,
        ),
        read(
            "wait-until",
            2,
            "!TABLE !RECORD *COLUMN?:KEY=VALUE",
            &[],
            prepare_wait_until,
            wait_until,
        ),
    ]
}

/// `show`, the last group of a tool's command table: its option is the last of all.
pub const fn show_group<E: 'static>() -> [Command<E>; 1] {
    [Command {
        name: "show",
        min_args: 0,
        max_args: 0,
        usage: "",
        options: &["--filter="],
        prepare: show::prepare,
        run: show::run,
        finish: None,
        writes: false,
    }]
}

fn prepare_get<E>(p: &mut Prepare<'_>, inv: &Invocation<E>) -> Outcome {
    let table = p.need_record(inv.arg(1), inv.arg(2))?;
    for arg in inv.argv.iter().skip(3).filter(|a| !is_uuid(a)) {
        let named = parse_column_key(&p.db.tables[table], arg)?;
        if let Some(i) = named.column.position() {
            p.idl.monitor_column(table, i);
        }
    }
    Ok(())
}

/// Needs the columns that assignments or conditions name. What follows the names is read only when a
/// row is there to be looked at.
fn need_named(p: &mut Prepare<'_>, table: usize, args: &[String]) -> Outcome {
    for arg in args {
        if let Some(i) = parse_column_key(&p.db.tables[table], arg)?
            .column
            .position()
        {
            p.idl.monitor_column(table, i);
        }
    }
    Ok(())
}

/// Whether a word is the name of the column that every table has.
fn is_uuid(word: &str) -> bool {
    word.eq_ignore_ascii_case("_uuid")
}

/// Makes `--id=@NAME` stand for a row.
fn bind_id<E>(ctx: &mut Context<'_, E>, id: &str, uuid: Option<Uuid>) -> Result<Uuid, Fail> {
    if !id.starts_with('@') {
        return Err(format!("row id \"{id}\" does not begin with \"@\"").into());
    }
    let used = ctx.symbols.get(id).is_some();
    let symbol = ctx.symbols.insert(id);
    if symbol.created {
        return Err(format!("row id \"{id}\" may only be specified on one --id option").into());
    }
    symbol.created = true;
    if let Some(uuid) = uuid {
        if used {
            return Err(format!(
                "row id \"{id}\" specified on \"get\" command was used before it was defined"
            )
            .into());
        }
        symbol.uuid = uuid;
        // A row that is there already needs no reference to stay.
        symbol.strong_ref = true;
    }
    Ok(symbol.uuid)
}

fn get<E>(ctx: &mut Context<'_, E>, inv: &mut Invocation<E>) -> Outcome {
    let must_exist = !inv.has("--if-exists");
    if !must_exist && inv.has("--id") {
        return Err("--if-exists and --id may not be specified together".into());
    }
    let table = find_table(ctx.spec.db, inv.arg(1))?;
    let def = &ctx.spec.db.tables[table];
    let record = inv.arg(2).to_string();
    let Some(row) = require_row(ctx, table, &record, !must_exist)? else {
        return Ok(());
    };
    if let Some(id) = inv.option("--id").map(str::to_string) {
        bind_id(ctx, &id, Some(row))?;
    }
    let rest = inv.argv[3..].to_vec();
    for arg in rest {
        if is_uuid(&arg) {
            inv.say(row);
            continue;
        }
        let named = parse_column_key(def, &arg)?;
        if !named.rest.is_empty() {
            return Err(format!("{arg}: trailing garbage \"{}\" in argument", named.rest).into());
        }
        let ty = named.column.column_type(def);
        let datum = named.column.value(ctx.view(), table, row);
        let Some(key) = named.key else {
            inv.say(datum.to_text(&ty));
            continue;
        };
        if ty.value.is_none() {
            let column = named.column.name(def);
            return Err(format!("cannot specify key to get for non-map column {column}").into());
        }
        let key = Atom::from_text(&ty.key, &key, Some(ctx.symbols))?;
        match datum.get(&key) {
            Some(value) => inv.say(value.to_text()),
            None if must_exist => {
                return Err(format!(
                    "no key \"{}\" in {} record \"{record}\" column {}",
                    key.to_bare(),
                    def.name,
                    named.column.name(def)
                )
                .into());
            }
            None => inv.say(""),
        }
    }
    Ok(())
}

/// The columns that `--columns` names, or all.
fn listed_columns<E>(
    db: &'static ferrovs_idl::Database,
    table: usize,
    inv: &Invocation<E>,
) -> Result<Vec<ColumnRef>, Fail> {
    let def = &db.tables[table];
    let Some(names) = inv.option("--columns") else {
        let all = (0..def.columns.len()).map(ColumnRef::At);
        return Ok(std::iter::once(ColumnRef::Uuid).chain(all).collect());
    };
    let mut columns = Vec::new();
    for name in names.split([',', ' ']).filter(|n| !n.is_empty()) {
        columns.push(match is_uuid(name) {
            true => ColumnRef::Uuid,
            false => find_column(def, name)?,
        });
    }
    if columns.is_empty() {
        return Err("must specify at least one column name".into());
    }
    Ok(columns)
}

fn need_listed<E>(p: &mut Prepare<'_>, table: usize, inv: &Invocation<E>) -> Outcome {
    for column in listed_columns(p.db, table, inv)? {
        if let Some(i) = column.position() {
            p.idl.monitor_column(table, i);
        }
    }
    Ok(())
}

fn prepare_list<E>(p: &mut Prepare<'_>, inv: &Invocation<E>) -> Outcome {
    let table = match inv.argv.len() {
        2 => p.need_table(inv.arg(1))?,
        _ => need_records(p, inv)?,
    };
    need_listed(p, table, inv)
}

/// Needs the records that follow the name of the table.
fn need_records<E>(p: &mut Prepare<'_>, inv: &Invocation<E>) -> Result<usize, Fail> {
    let table = find_table(p.db, inv.arg(1))?;
    for record in &inv.argv[2..] {
        p.need_record(inv.arg(1), record)?;
    }
    Ok(table)
}

fn list_rows<E>(
    ctx: &mut Context<'_, E>,
    inv: &mut Invocation<E>,
    table: usize,
    rows: &[Uuid],
) -> Outcome {
    let db = ctx.spec.db;
    let columns = listed_columns(db, table, inv)?;
    let def = &db.tables[table];
    let mut out = Table::new(columns.iter().map(|c| c.name(def).to_string()).collect());
    for &row in rows {
        out.rows.push(
            columns
                .iter()
                .map(|c| c.cell(db, ctx.view(), table, row))
                .collect(),
        );
    }
    inv.table = Some(out);
    Ok(())
}

fn list<E>(ctx: &mut Context<'_, E>, inv: &mut Invocation<E>) -> Outcome {
    let table = find_table(ctx.spec.db, inv.arg(1))?;
    let mut rows = Vec::new();
    if inv.argv.len() > 2 {
        let rest = inv.argv[2..].to_vec();
        for record in rest {
            rows.extend(require_row(ctx, table, &record, inv.has("--if-exists"))?);
        }
    } else {
        rows = ctx.view().uuids(table);
    }
    list_rows(ctx, inv, table, &rows)
}

fn prepare_find<E>(p: &mut Prepare<'_>, inv: &Invocation<E>) -> Outcome {
    let table = p.need_table(inv.arg(1))?;
    need_listed(p, table, inv)?;
    need_named(p, table, &inv.argv[2..])
}

fn find<E>(ctx: &mut Context<'_, E>, inv: &mut Invocation<E>) -> Outcome {
    let table = find_table(ctx.spec.db, inv.arg(1))?;
    let conditions = inv.argv[2..].to_vec();
    let mut rows = Vec::new();
    'rows: for row in ctx.view().uuids(table) {
        for condition in &conditions {
            if !is_condition_satisfied(ctx, table, row, condition)? {
                continue 'rows;
            }
        }
        rows.push(row);
    }
    list_rows(ctx, inv, table, &rows)
}

fn prepare_set<E>(p: &mut Prepare<'_>, inv: &Invocation<E>) -> Outcome {
    let table = p.need_record(inv.arg(1), inv.arg(2))?;
    need_named(p, table, &inv.argv[3..])
}

/// The table and the record that a command names; none where there need not be such a record.
fn subject<E>(
    ctx: &mut Context<'_, E>,
    inv: &Invocation<E>,
) -> Result<Option<(usize, Uuid)>, Fail> {
    let table = find_table(ctx.spec.db, inv.arg(1))?;
    let row = require_row(ctx, table, inv.arg(2), inv.has("--if-exists"))?;
    Ok(row.map(|row| (table, row)))
}

fn set<E>(ctx: &mut Context<'_, E>, inv: &mut Invocation<E>) -> Outcome {
    let Some((table, row)) = subject(ctx, inv)? else {
        return Ok(());
    };
    let rest = inv.argv[3..].to_vec();
    for arg in rest {
        set_column(ctx, table, row, &arg)?;
    }
    Ok(())
}

fn prepare_one_column<E>(p: &mut Prepare<'_>, inv: &Invocation<E>) -> Outcome {
    let table = p.need_record(inv.arg(1), inv.arg(2))?;
    p.need_column(table, inv.arg(3))
}

fn add<E>(ctx: &mut Context<'_, E>, inv: &mut Invocation<E>) -> Outcome {
    let Some((table, row)) = subject(ctx, inv)? else {
        return Ok(());
    };
    let def = &ctx.spec.db.tables[table];
    let column = find_column(def, inv.arg(3))?.writable(def)?;
    let ty = ctx.idl.column_type(table, column).clone();
    let some = ColumnType {
        min: 1,
        ..ty.any_number()
    };
    // Of several pairs with one key the first counts, and before them the one that is there.
    let current = ctx.view().get(table, row, column).clone();
    let mut all = current.clone();
    for arg in &inv.argv[4..] {
        all = all.union(&Datum::from_text(&some, arg, Some(ctx.symbols))?);
    }
    if all.len() > ty.max as usize {
        return Err(format!(
            "\"add\" operation would put {} values in column {} of table {} but the maximum number \
             is {}",
            all.len(),
            def.columns[column].name,
            def.name,
            ty.max
        )
        .into());
    }
    ctx.txn
        .add(ctx.idl, table, row, column, &all.subtract(&current));
    ctx.touched.push((table, Some(column)));
    Ok(())
}

fn remove<E>(ctx: &mut Context<'_, E>, inv: &mut Invocation<E>) -> Outcome {
    let Some((table, row)) = subject(ctx, inv)? else {
        return Ok(());
    };
    let def = &ctx.spec.db.tables[table];
    let column = find_column(def, inv.arg(3))?.writable(def)?;
    let ty = ctx.idl.column_type(table, column).clone();
    let any = ColumnType {
        min: 1,
        ..ty.any_number()
    };
    let keys = ColumnType {
        value: None,
        ..any.clone()
    };
    for arg in &inv.argv[4..] {
        // Of a map, pairs or keys alone may be named.
        let members = match Datum::from_text(&any, arg, Some(ctx.symbols)) {
            Err(e) => match ty.is_map() {
                true => Datum::from_text(&keys, arg, Some(ctx.symbols)),
                false => Err(e),
            },
            ok => ok,
        }?;
        ctx.txn.remove(ctx.idl, table, row, column, &members);
    }
    let left = ctx.view().get(table, row, column).len();
    if left < ty.min as usize {
        return Err(format!(
            "\"remove\" operation would put {left} values in column {} of table {} but the minimum \
             number is {}",
            def.columns[column].name, def.name, ty.min
        )
        .into());
    }
    ctx.touched.push((table, Some(column)));
    Ok(())
}

fn prepare_clear<E>(p: &mut Prepare<'_>, inv: &Invocation<E>) -> Outcome {
    let table = p.need_record(inv.arg(1), inv.arg(2))?;
    inv.argv[3..]
        .iter()
        .try_for_each(|name| p.need_column(table, name))
}

fn clear<E>(ctx: &mut Context<'_, E>, inv: &mut Invocation<E>) -> Outcome {
    let Some((table, row)) = subject(ctx, inv)? else {
        return Ok(());
    };
    let def = &ctx.spec.db.tables[table];
    for name in &inv.argv[3..] {
        let column = find_column(def, name)?.writable(def)?;
        if ctx.idl.column_type(table, column).min > 0 {
            return Err(format!(
                "\"clear\" operation cannot be applied to column {} of table {}, which is not \
                 allowed to be empty",
                def.columns[column].name, def.name
            )
            .into());
        }
        ctx.txn.write(table, row, column, Datum::Empty);
        ctx.touched.push((table, Some(column)));
    }
    Ok(())
}

fn prepare_create<E>(p: &mut Prepare<'_>, inv: &Invocation<E>) -> Outcome {
    // Nothing is read of the table, so nothing is asked for.
    let def = &p.db.tables[find_table(p.db, inv.arg(1))?];
    if !inv.has("--id") && !def.is_root {
        vlog::warn!(
            modules::DB_CTL_BASE,
            "applying \"create\" command to table {} without --id option will have no effect",
            def.name
        );
    }
    Ok(())
}

fn create<E>(ctx: &mut Context<'_, E>, inv: &mut Invocation<E>) -> Outcome {
    let table = find_table(ctx.spec.db, inv.arg(1))?;
    let literal = inv.option("--id").and_then(ferrovs_ovsdb::uuid::parse);
    let uuid = match inv.option("--id").map(str::to_string) {
        Some(id) if literal.is_none() => {
            let uuid = bind_id(ctx, &id, None)?;
            if ctx.spec.db.tables[table].is_root {
                // Rows of root tables stay without a reference.
                ctx.symbols.insert(&id).strong_ref = true;
            }
            Some(uuid)
        }
        _ => None,
    };
    let row = match literal {
        // A UUID instead of a name: the row keeps it.
        Some(uuid) => ctx.txn.insert_persistent(table, uuid),
        None => ctx.txn.insert_row(table, uuid),
    };
    let rest = inv.argv[2..].to_vec();
    for arg in rest {
        set_column(ctx, table, row, &arg)?;
    }
    inv.created = Some(row);
    inv.say(row);
    ctx.touched.push((table, None));
    Ok(())
}

/// Prints the UUID that the row really got.
fn finish_create<E>(txn: &Txn, inv: &mut Invocation<E>) {
    if let Some(real) = inv.created.and_then(|row| txn.insert_uuid(row)) {
        inv.output = format!("{real}\n");
    }
}

fn prepare_destroy<E>(p: &mut Prepare<'_>, inv: &Invocation<E>) -> Outcome {
    let table = p.need_table(inv.arg(1))?;
    p.need(p.db.tables[table].name, &[]);
    Ok(())
}

fn destroy<E>(ctx: &mut Context<'_, E>, inv: &mut Invocation<E>) -> Outcome {
    let all = inv.has("--all");
    let table = find_table(ctx.spec.db, inv.arg(1))?;
    if all && inv.argv.len() > 2 {
        return Err("--all and records argument should not be specified together".into());
    }
    if all && inv.has("--if-exists") {
        return Err("--all and --if-exists should not be specified together".into());
    }
    if !all && inv.argv.len() == 2 {
        vlog::warn!(
            modules::DB_CTL_BASE,
            "either --all or records argument should be specified"
        );
    }
    if all {
        for row in ctx.view().uuids(table) {
            ctx.txn.delete_row(table, row);
        }
    }
    let rest = inv.argv[2..].to_vec();
    for record in rest {
        if let Some(row) = require_row(ctx, table, &record, inv.has("--if-exists"))? {
            ctx.txn.delete_row(table, row);
        }
    }
    ctx.touched.push((table, None));
    Ok(())
}

fn prepare_wait_until<E>(p: &mut Prepare<'_>, inv: &Invocation<E>) -> Outcome {
    let table = p.need_record(inv.arg(1), inv.arg(2))?;
    need_named(p, table, &inv.argv[3..])
}

fn wait_until<E>(ctx: &mut Context<'_, E>, inv: &mut Invocation<E>) -> Outcome {
    let table = find_table(ctx.spec.db, inv.arg(1))?;
    let record = inv.arg(2).to_string();
    let Some(row) = require_row(ctx, table, &record, true)? else {
        return Err(Fail::TryAgain);
    };
    let rest = inv.argv[3..].to_vec();
    for condition in rest {
        if !is_condition_satisfied(ctx, table, row, &condition)? {
            return Err(Fail::TryAgain);
        }
    }
    Ok(())
}
