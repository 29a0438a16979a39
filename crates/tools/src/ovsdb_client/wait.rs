//! `wait`: until a database is added to a server, connected to its cluster, or removed.

use super::{Client, default_remote, looks_like_remote};
use ferrovs_runtime::{Poller, clock, fatal};
use ferrovs_stream::json::Value;
use ferrovs_stream::jsonrpc::{Msg, Session};
use std::collections::BTreeMap;

#[derive(Clone, Default)]
struct DbRow {
    name: String,
    connected: bool,
}

pub(super) fn wait(_: &mut Client, mut args: Vec<String>) {
    let named = args.len() > 2 && looks_like_remote(&args[0]);
    let remote = if named {
        args.remove(0)
    } else {
        default_remote()
    };
    let [database, state] = args.as_slice() else {
        fatal("invalid syntax for 'wait' (use --help for help)");
    };
    if !["added", "connected", "removed"].contains(&state.as_str()) {
        fatal(format_args!("{state}: unknown state"));
    }
    let remotes = remote.split(',').map(str::to_string).collect();
    let mut session = Session::open_multiple(remotes, true, clock::now());
    let mut seqno = session.seqno();
    let mut rows: Option<BTreeMap<String, DbRow>> = None;
    let mut request = Value::Null;
    let mut poller = Poller::new();
    loop {
        let now = clock::now();
        session.run(now);
        if seqno != session.seqno() {
            seqno = session.seqno();
            rows = None;
            if session.is_connected() {
                let (aware, _) = Msg::request("set_db_change_aware", vec![true.into()]);
                session.send(&aware);
                let id = Value::Array(vec!["monid".into(), "_Server".into()]);
                let tables =
                    serde_json::json!({ "Database": [{ "columns": ["name", "connected"] }] });
                let params = vec!["_Server".into(), id, tables];
                let (monitor, id) = Msg::request("monitor", params);
                session.send(&monitor);
                request = id;
            }
        }
        while let Some(msg) = session.recv(now) {
            match msg {
                Msg::Reply { result, id } if id == request => {
                    rows = Some(BTreeMap::new());
                    apply(rows.as_mut(), &result);
                }
                Msg::Notify { method, params } if method == "update" => {
                    if let Some(updates) = params.get(1) {
                        apply(rows.as_mut(), updates);
                    }
                }
                _ => {}
            }
        }
        if let Some(rows) = &rows {
            let row = rows.values().find(|r| r.name == *database);
            let reached = match state.as_str() {
                "added" => row.is_some(),
                "connected" => row.is_some_and(|r| r.connected),
                _ => row.is_none(),
            };
            if reached {
                return;
            }
        }
        session.wait(&mut poller);
        session.recv_wait(&mut poller);
        poller.block();
    }
}

fn apply(rows: Option<&mut BTreeMap<String, DbRow>>, updates: &Value) {
    let (Some(rows), Some(changes)) = (rows, updates.get("Database").and_then(Value::as_object))
    else {
        return;
    };
    for (id, update) in changes {
        match update.get("new") {
            Some(new) => {
                let row = rows.entry(id.clone()).or_default();
                if let Some(name) = new.get("name").and_then(Value::as_str) {
                    row.name = name.to_string();
                }
                if let Some(connected) = new.get("connected").and_then(Value::as_bool) {
                    row.connected = connected;
                }
            }
            None => drop(rows.remove(id)),
        }
    }
}
