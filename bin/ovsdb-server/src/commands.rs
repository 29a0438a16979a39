//! The commands of the control socket.

mod replication;

use ferrovs_runtime::unixctl::{Commands, Output, Reply, Request};
use ferrovs_runtime::vlog::modules::OVSDB_SERVER;
use ferrovs_runtime::{clock, memory, vlog};

use crate::app::App;
use crate::db_config;

fn nothing() -> Reply {
    Ok(Output::empty())
}

/// A configuration file leaves nothing to commands.
fn refuse_with_file(app: &App) -> Result<(), String> {
    app.config_file.as_ref().map_or(Ok(()), |file| {
        let file = file.display();
        Err(format!(
            "Update the {file} and use ovsdb-server/reload instead"
        ))
    })
}

pub fn register(c: &mut Commands<App>, column_diff: bool, data_conversion: bool) {
    memory::register(c, |app: &mut App, usage| app.memory_usage(usage));
    c.register("exit", "", 0, 0, |app, r| {
        app.exiting.push(r.responder());
        Ok(Output::Deferred)
    });
    c.register("ovsdb-server/list-dbs", "", 0, 0, |app, _| {
        Ok(app
            .server
            .dbs()
            .map(|d| format!("{}\n", d.name()))
            .collect::<String>()
            .into())
    });
    c.register("ovsdb-server/add-db", "DB", 1, 1, |app, r| {
        refuse_with_file(app)?;
        app.add_db(r.arg(1).unwrap_or_default())?;
        app.save();
        nothing()
    });
    c.register("ovsdb-server/remove-db", "DB", 1, 1, |app, r| {
        refuse_with_file(app)?;
        app.remove_db(r.arg(1).unwrap_or_default())?;
        app.save();
        nothing()
    });
    c.register("ovsdb-server/list-remotes", "", 0, 0, |app, _| {
        Ok(app
            .remote_names
            .keys()
            .map(|n| format!("{n}\n"))
            .collect::<String>()
            .into())
    });
    c.register("ovsdb-server/add-remote", "REMOTE", 1, 1, add_remote);
    c.register("ovsdb-server/remove-remote", "REMOTE", 1, 1, |app, r| {
        refuse_with_file(app)?;
        let name = r.arg(1).unwrap_or_default();
        if app.remote_names.remove(name).is_none() {
            return Err("no such remote".into());
        }
        app.invalidate();
        app.save();
        nothing()
    });
    register_care(c);
    // They undo an option, so they are there with it.
    if !column_diff {
        c.register("ovsdb/file/column-diff-enable", "", 0, 0, |app, _| {
            app.server.column_diff = true;
            nothing()
        });
    }
    if data_conversion {
        c.register("ovsdb/file/no-data-conversion-enable", "", 0, 0, |_, _| {
            nothing()
        });
    }
    replication::register(c);
}

/// Commands about storage, connections and what is told of the work.
fn register_care(c: &mut Commands<App>) {
    c.register("ovsdb-server/compact", "", 0, 1, compact);
    c.register(
        "ovsdb-server/memory-trim-on-compaction",
        "on|off",
        1,
        1,
        |_, r| {
            // Freed memory goes back by the allocator; both settings are met.
            let what = match r.arg(1) {
                Some("on") => "enabled",
                Some("off") => "disabled",
                _ => return Err("invalid argument".into()),
            };
            vlog::info!(OVSDB_SERVER, "memory trimming after compaction {what}.");
            nothing()
        },
    );
    c.register("ovsdb-server/reconnect", "", 0, 0, |app, _| {
        let why = "user ran ovsdb-server/reconnect";
        app.remotes.reconnect(why, clock::now());
        nothing()
    });
    c.register("ovsdb-server/reload", "", 0, 0, |app, _| {
        app.reload()?;
        nothing()
    });
    c.register(
        "ovsdb-server/get-db-storage-status",
        "DB",
        1,
        1,
        |app, r| {
            let db = app.server.db(r.arg(1).unwrap_or_default());
            let Some(db) = db else {
                return Err("Failed to find the database.".into());
            };
            Ok(match db.storage_error() {
                Some(e) => format!("status: {e}").into(),
                None => "status: ok".into(),
            })
        },
    );
    c.register("ovsdb-server/disable-monitor-cond", "", 0, 0, |app, _| {
        // Clients find out by connecting anew.
        app.server.monitor_cond_disabled = true;
        let why = "user ran ovsdb-server/disable-monitor-cond command";
        app.remotes.reconnect(why, clock::now());
        nothing()
    });
    c.register("ovsdb-server/perf-counters-show", "", 0, 0, |_, _| {
        Ok("performance counter is not supported on this platform\n".into())
    });
    c.register("ovsdb-server/perf-counters-clear", "", 0, 0, |_, _| {
        nothing()
    });
    c.register("ovsdb-server/tlog-set", "DB:TABLE on|off", 2, 2, tlog_set);
    c.register("ovsdb-server/tlog-list", "", 0, 0, tlog_list);
}

fn tlog_set(app: &mut App, r: &Request) -> Reply {
    let Some((db, table)) = r.arg(1).unwrap_or_default().split_once(':') else {
        return Err("invalid DB:TABLE argument".into());
    };
    let Some(db) = app.server.db_mut(db) else {
        return Err("no such database".into());
    };
    if db.is_logged(table).is_none() {
        return Err("no such table".into());
    }
    let on = match r.arg(2) {
        Some(w) if w.eq_ignore_ascii_case("on") => true,
        Some(w) if w.eq_ignore_ascii_case("off") => false,
        _ => return Err("invalid command argument".into()),
    };
    db.set_logged(table, on);
    nothing()
}

fn tlog_list(app: &mut App, _: &Request) -> Reply {
    let mut out = String::from(
        "database        table                       logging\n\
         --------        -----                       -------\n",
    );
    for db in app.server.dbs() {
        out.push_str(&format!("{:<16} \n", db.name()));
        for t in db.database().tables() {
            let name = &t.schema.name;
            let on = if db.is_logged(name) == Some(true) {
                "ON"
            } else {
                "OFF"
            };
            out.push_str(&format!("                {name:<27} {on}\n"));
        }
    }
    Ok(out.into())
}

fn add_remote(app: &mut App, r: &Request) -> Reply {
    refuse_with_file(app)?;
    let name = r.arg(1).unwrap_or_default();
    if name.starts_with("db:") && !db_config::is_pending(&app.server, name) {
        db_config::parse_column(&app.server, name)?;
    }
    app.remote_names.entry(name.to_owned()).or_default();
    app.invalidate();
    app.save();
    nothing()
}

fn compact(app: &mut App, r: &Request) -> Reply {
    let names: Vec<String> = match r.arg(1) {
        Some(n) if n.starts_with('_') && app.server.db(n).is_some() => {
            return Err("cannot compact built-in databases".into());
        }
        Some(n) if app.server.db(n).is_none() => return Err("no database by that name".into()),
        Some(n) => vec![n.to_owned()],
        None => app
            .server
            .dbs()
            .filter(|d| !d.name().starts_with('_'))
            .map(|d| d.name().to_owned())
            .collect(),
    };
    for n in &names {
        vlog::info!(OVSDB_SERVER, "compacting {n} database by user request");
    }
    // The last one answers; they run side by side, each reports its own failure in the log.
    let Some((last, rest)) = names.split_last() else {
        return nothing();
    };
    for n in rest {
        app.compact_quietly(n);
    }
    match app.compact(last, r.responder()) {
        Ok(()) => Ok(Output::Deferred),
        Err((e, responder)) => {
            responder.reply(Err(e));
            Ok(Output::Deferred)
        }
    }
}
