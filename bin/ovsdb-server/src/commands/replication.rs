//! Commands about other servers: backups of active ones, and relays.

use std::time::Duration;

use ferrovs_runtime::unixctl::{Commands, Reply, Request};

use super::{nothing, refuse_with_file};
use crate::app::App;

pub fn register(c: &mut Commands<App>) {
    c.register("ovsdb-server/sync-status", "", 0, 0, |app, _| {
        Ok(app.databases.sync_status().into())
    });
    c.register(
        "ovsdb-server/get-active-ovsdb-server",
        "",
        0,
        0,
        |app, _| {
            Ok(if app.config_file.is_some() {
                app.databases.active_servers().join("\n").into()
            } else {
                app.sync.from.clone().unwrap_or_default().into()
            })
        },
    );
    c.register(
        "ovsdb-server/set-active-ovsdb-server",
        "",
        1,
        1,
        |app, r| {
            refuse_with_file(app)?;
            app.sync.from = r.arg(1).map(str::to_owned);
            app.save();
            nothing()
        },
    );
    c.register(
        "ovsdb-server/connect-active-ovsdb-server",
        "",
        0,
        0,
        |app, _| {
            refuse_with_file(app)?;
            if app.sync.from.is_none() {
                // Not an error to the client: so it is in Open vSwitch.
                return Ok("Unable to connect: active server is not specified.\n".into());
            }
            app.sync.backup = true;
            app.set_roles();
            app.save();
            nothing()
        },
    );
    c.register(
        "ovsdb-server/disconnect-active-ovsdb-server",
        "",
        0,
        0,
        |app, _| {
            refuse_with_file(app)?;
            app.sync.backup = false;
            app.set_roles();
            app.save();
            nothing()
        },
    );
    c.register(
        "ovsdb-server/set-active-ovsdb-server-probe-interval",
        "",
        1,
        1,
        |app, r| probe_interval(app, r, false),
    );
    c.register(
        "ovsdb-server/set-relay-source-probe-interval",
        "",
        1,
        1,
        |app, r| probe_interval(app, r, true),
    );
    c.register(
        "ovsdb-server/set-sync-exclude-tables",
        "",
        1,
        1,
        |app, r| {
            refuse_with_file(app)?;
            app.sync.set_exclude(r.arg(1).unwrap_or_default());
            if app.sync.backup {
                app.set_roles();
            }
            app.save();
            nothing()
        },
    );
    c.register(
        "ovsdb-server/get-sync-exclude-tables",
        "",
        0,
        0,
        |app, _| {
            Ok(if app.config_file.is_some() {
                app.databases.excluded().join(",").into()
            } else {
                app.sync.exclude_text().to_owned().into()
            })
        },
    );
}

fn probe_interval(app: &mut App, r: &Request, relays: bool) -> Reply {
    refuse_with_file(app)?;
    let Ok(ms) = r.arg(1).unwrap_or_default().parse::<i32>() else {
        return Err("Invalid probe interval, integer value expected".into());
    };
    // Less than nothing is something: the shortest interval that there is.
    let ms = u64::try_from(ms).unwrap_or(1);
    let setting = if relays {
        &mut app.sync.relay_probe
    } else {
        &mut app.sync.probe
    };
    *setting = Some(ms);
    app.databases
        .set_probe_interval(relays, Duration::from_millis(ms));
    app.save();
    nothing()
}
