//! `get-manager`, `del-manager` and `set-manager`: OVSDB connections, referred to by the root row.

use super::{Command, Context, Invocation, MANY, Outcome, Prepare, leading_number};
use ferrovs_idl::Uuid;
use ferrovs_ovsdb::{Atom, Datum};
use ferrovs_runtime::vlog::{self, Module};

/// What a tool with managers says about its database.
pub trait HasManagers: 'static {
    /// The root table, and its column that refers to rows of Manager.
    const MANAGERS: (&'static str, &'static str);
    /// What the tool logs under.
    const MODULE: &'static Module;
    /// The root row.
    fn root(&self) -> Uuid;
}

/// The commands, as a group of a tool's command table.
pub const fn managers<E: HasManagers>() -> [Command<E>; 3] {
    [
        Command {
            name: "get-manager",
            min_args: 0,
            max_args: 0,
            usage: "",
            options: &[],
            prepare,
            run: get_manager,
            finish: None,
            writes: false,
        },
        Command {
            name: "del-manager",
            min_args: 0,
            max_args: 0,
            usage: "",
            options: &[],
            prepare,
            run: del_manager,
            finish: None,
            writes: true,
        },
        Command {
            name: "set-manager",
            min_args: 1,
            max_args: MANY,
            usage: "+TARGET",
            options: &["--inactivity-probe="],
            prepare,
            run: set_manager,
            finish: None,
            writes: true,
        },
    ]
}

/// The table of connections, and what is used of it.
const MANAGER: &str = "Manager";
const COLUMNS: [&str; 2] = ["target", "inactivity_probe"];

fn prepare<E: HasManagers>(p: &mut Prepare<'_>, _: &Invocation<E>) -> Outcome {
    let (root, column) = E::MANAGERS;
    p.need(root, &[column]);
    p.need(MANAGER, &COLUMNS);
    Ok(())
}

/// The root table, its row, and the column.
fn place<E: HasManagers>(ctx: &Context<'_, E>) -> (usize, Uuid, usize) {
    let (table, column) = E::MANAGERS;
    let table = ctx.spec.db.table_index(table).unwrap_or_default();
    let column = ctx.spec.db.tables[table].column_index(column);
    (table, ctx.ext.root(), column.unwrap_or_default())
}

fn manager_rows<E: HasManagers>(ctx: &Context<'_, E>) -> Vec<Uuid> {
    let (table, root, column) = place(ctx);
    let datum = ctx.view().get(table, root, column);
    datum.atoms().iter().filter_map(Atom::as_uuid).collect()
}

fn get_manager<E: HasManagers>(ctx: &mut Context<'_, E>, inv: &mut Invocation<E>) -> Outcome {
    let (table, root, column) = place(ctx);
    ctx.txn.verify_column(ctx.idl, table, root, column);
    let target = |row| ctx.value(MANAGER, row, COLUMNS[0]);
    let mut targets: Vec<String> = manager_rows(ctx)
        .into_iter()
        .filter_map(|row| Some(target(row).scalar()?.as_str()?.to_string()))
        .collect();
    targets.sort_unstable();
    for target in targets {
        inv.say(target);
    }
    Ok(())
}

fn del_manager<E: HasManagers>(ctx: &mut Context<'_, E>, _: &mut Invocation<E>) -> Outcome {
    let (table, root, column) = place(ctx);
    ctx.txn.verify_column(ctx.idl, table, root, column);
    let managers = ctx.spec.db.table_index(MANAGER).unwrap_or_default();
    for row in manager_rows(ctx) {
        ctx.txn.delete_row(managers, row);
    }
    ctx.txn.write(table, root, column, Datum::Empty);
    Ok(())
}

fn set_manager<E: HasManagers>(ctx: &mut Context<'_, E>, inv: &mut Invocation<E>) -> Outcome {
    del_manager(ctx, inv)?;
    let probe = inv.option("--inactivity-probe").map(leading_number);
    let managers = ctx.spec.db.table_index(MANAGER).unwrap_or_default();
    let columns = COLUMNS.map(|name| ctx.spec.db.tables[managers].column_index(name));
    let [Some(target_at), Some(probe_at)] = columns else {
        return Ok(());
    };
    let mut rows = Vec::new();
    for target in &inv.argv[1..] {
        check_target(E::MODULE, target);
        let row = ctx.txn.insert_row(managers, None);
        let target = Datum::from(Atom::string(target));
        ctx.txn.write(managers, row, target_at, target);
        if let Some(probe) = probe {
            let probe = Datum::from(Atom::Integer(probe));
            ctx.txn.write(managers, row, probe_at, probe);
        }
        rows.push(Atom::Uuid(row));
    }
    let (table, root, column) = place(ctx);
    ctx.txn.write(table, root, column, Datum::from_atoms(rows));
    Ok(())
}

/// Warns of a target that no connection method knows.
pub fn check_target(module: &'static Module, target: &str) {
    const KNOWN: [&str; 6] = ["pssl:", "ptcp:", "punix:", "ssl:", "tcp:", "unix:"];
    if !KNOWN.iter().any(|method| target.starts_with(method)) {
        vlog::warn!(*module, "target type \"{target}\" is possibly erroneous");
    }
}
