//! The commands of the control socket.

use ferrovs_runtime::unixctl::{Commands, Output, Reply, Request};
use ferrovs_runtime::{clock, memory};

use crate::app::App;
use crate::db_config;

fn nothing() -> Reply {
    Ok(Output::empty())
}

pub fn register(c: &mut Commands<App>) {
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
        app.add_db(r.arg(1).unwrap_or_default())?;
        nothing()
    });
    c.register("ovsdb-server/remove-db", "DB", 1, 1, |app, r| {
        app.remove_db(r.arg(1).unwrap_or_default())?;
        nothing()
    });
    c.register("ovsdb-server/list-remotes", "", 0, 0, |app, _| {
        let mut names = app.remote_names.clone();
        names.sort();
        Ok(names
            .iter()
            .map(|n| format!("{n}\n"))
            .collect::<String>()
            .into())
    });
    c.register("ovsdb-server/add-remote", "REMOTE", 1, 1, add_remote);
    c.register("ovsdb-server/remove-remote", "REMOTE", 1, 1, |app, r| {
        let name = r.arg(1).unwrap_or_default();
        let before = app.remote_names.len();
        app.remote_names.retain(|n| n != name);
        if app.remote_names.len() == before {
            return Err("no such remote".into());
        }
        app.invalidate();
        nothing()
    });
    c.register("ovsdb-server/compact", "", 0, 1, compact);
    c.register(
        "ovsdb-server/memory-trim-on-compaction",
        "on|off",
        1,
        1,
        |_, r| {
            // Freed memory goes back by the allocator; both settings are met.
            match r.arg(1) {
                Some("on" | "off") => nothing(),
                _ => Err("invalid argument".into()),
            }
        },
    );
    c.register("ovsdb-server/reconnect", "", 0, 0, |app, _| {
        app.remotes.reconnect(clock::now());
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
    c.register("ovsdb-server/sync-status", "", 0, 0, |_, _| {
        Ok("state: active\n".into())
    });
    c.register("ovsdb-server/disable-monitor-cond", "", 0, 0, |app, _| {
        // Clients find out by connecting anew.
        app.server.monitor_cond_disabled = true;
        app.remotes.reconnect(clock::now());
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
    replication(c);
}

/// Active-backup replication is not built in: its settings can be kept and shown.
fn replication(c: &mut Commands<App>) {
    c.register(
        "ovsdb-server/get-active-ovsdb-server",
        "",
        0,
        0,
        |app, _| Ok(app.sync_from.clone().unwrap_or_default().into()),
    );
    c.register(
        "ovsdb-server/set-active-ovsdb-server",
        "",
        1,
        1,
        |app, r| {
            app.sync_from = r.arg(1).map(str::to_owned);
            nothing()
        },
    );
    c.register(
        "ovsdb-server/connect-active-ovsdb-server",
        "",
        0,
        0,
        |app, _| match &app.sync_from {
            None => Err("Unable to connect: active server is not specified.\n".into()),
            Some(_) => Err("this server does not replicate".into()),
        },
    );
    c.register(
        "ovsdb-server/disconnect-active-ovsdb-server",
        "",
        0,
        0,
        |_, _| nothing(),
    );
    c.register(
        "ovsdb-server/get-sync-exclude-tables",
        "",
        0,
        0,
        |app, _| Ok(app.sync_exclude.clone().into()),
    );
    c.register(
        "ovsdb-server/set-sync-exclude-tables",
        "",
        1,
        1,
        |app, r| {
            app.sync_exclude = r.arg(1).unwrap_or_default().to_owned();
            nothing()
        },
    );
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
    let name = r.arg(1).unwrap_or_default();
    if name.starts_with("db:") {
        db_config::parse_column(&app.server, name)?;
    }
    if !app.remote_names.iter().any(|n| n == name) {
        app.remote_names.push(name.to_owned());
    }
    app.invalidate();
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
            .filter(|d| d.is_file())
            .map(|d| d.name().to_owned())
            .collect(),
    };
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
