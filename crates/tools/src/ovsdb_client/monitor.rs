//! Watching a database: `monitor`, `monitor-cond`, `monitor-cond-since`.
//!
//! The tool asks for the columns, prints the initial contents and then every change, until the
//! connection ends or a signal comes. With `--detach` it goes on in the background, and its
//! control socket takes `exit`, changes of conditions, and a pause.

use super::Client;
use super::control::{Control, Wishes};
use super::monitor_print::Watched;
use ferrovs_ovsdb::condition::Condition;
use ferrovs_ovsdb::{DatabaseSchema, TableSchema, uuid};
use ferrovs_runtime::daemon::Access;
use ferrovs_runtime::fatal;
use ferrovs_runtime::unixctl::{Commands, Output};
use ferrovs_runtime::vlog::{self, modules};
use ferrovs_stream::json::{Map, Value, parse, to_string};
use ferrovs_stream::jsonrpc::Msg;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The kind of monitor: which request, which updates.
#[derive(Clone, Debug, PartialEq)]
enum Version {
    Plain,
    Cond(String),
    Since(String, String),
}

pub(super) fn monitor(client: &mut Client, args: Vec<String>) {
    let (table, rest) = (args[0].clone(), args[1..].to_vec());
    run(client, Version::Plain, &table, &rest);
}

/// Ends the program if `json` is no condition for `table`.
fn check_condition(table: &TableSchema, json: &Value) {
    // A monitor's conditions may also be plain truth values.
    let clauses = json.as_array().map(|items| {
        let clauses = items.iter().filter(|item| !item.is_boolean());
        Value::Array(clauses.cloned().collect())
    });
    if let Err(e) = Condition::from_json(table, clauses.as_ref().unwrap_or(json), None) {
        fatal(e);
    }
}

pub(super) fn monitor_cond(client: &mut Client, args: Vec<String>) {
    let version = Version::Cond(args[0].clone());
    run(client, version, &args[1], &args[2..]);
}

pub(super) fn monitor_cond_since(client: &mut Client, mut args: Vec<String>) {
    let last_id = match uuid::parse(&args[0]) {
        Some(id) => {
            args.remove(0);
            id.to_string()
        }
        None => uuid::Uuid::nil().to_string(),
    };
    if args.len() < 2 {
        fatal("invalid syntax for 'monitor-cond-since' (use --help for help)");
    }
    let version = Version::Since(args[0].clone(), last_id);
    run(client, version, &args[1], &args[2..]);
}

/// One table to watch, and the requests for it.
fn watch(
    client_name: &str,
    schema: &DatabaseSchema,
    table: &Arc<TableSchema>,
    columns: &[String],
    condition: Option<&Value>,
) -> (Watched, Value) {
    let mut watched = Watched {
        table: Arc::clone(table),
        columns: Vec::new(),
    };
    let none = [String::new()];
    let words = if columns.is_empty() {
        &none[..]
    } else {
        columns
    };
    let requests: Vec<Value> = words
        .iter()
        .map(|word| watch_columns(client_name, schema, &mut watched, word, condition))
        .collect();
    (watched, Value::Array(requests))
}

/// One word: columns and kinds of changes that are not wanted, separated by commas.
fn watch_columns(
    name: &str,
    schema: &DatabaseSchema,
    watched: &mut Watched,
    word: &str,
    condition: Option<&Value>,
) -> Value {
    let mut select = Map::new();
    for kind in ["initial", "insert", "delete", "modify"] {
        select.insert(kind.into(), true.into());
    }
    let table = Arc::clone(&watched.table);
    let mut columns: Vec<usize> = Vec::new();
    for token in word.split(',').filter(|t| !t.is_empty()) {
        let kind = token.strip_prefix('!').filter(|k| select.contains_key(*k));
        if let Some(kind) = kind {
            select.insert(kind.into(), false.into());
        } else if let Some(column) = table.column(token) {
            columns.push(column.index);
        } else {
            fatal(format_args!(
                "{name}: table \"{}\" in {} does not have a column named \"{token}\"",
                table.name, schema.name
            ));
        }
    }
    if columns.is_empty() {
        columns = (ferrovs_ovsdb::schema::STANDARD_COLUMNS..table.columns.len()).collect();
        columns.push(ferrovs_ovsdb::schema::COL_VERSION);
    }
    let mut seen: BTreeSet<usize> = watched.columns.iter().copied().collect();
    for &column in &columns {
        if !seen.insert(column) {
            fatal(format_args!(
                "{name}: column \"{}\" mentioned multiple times as table column",
                table.columns[column].name
            ));
        }
    }
    let names: Vec<Value> = columns
        .iter()
        .map(|&c| Value::from(table.columns[c].name.as_str()))
        .collect();
    watched.columns.extend(columns);
    let mut request = Map::new();
    request.insert("columns".into(), names.into());
    request.insert("select".into(), Value::Object(select));
    if let Some(condition) = condition {
        request.insert("where".into(), condition.clone());
    }
    Value::Object(request)
}

fn run(client: &mut Client, version: Version, table: &str, columns: &[String]) {
    let database = client.database.clone();
    let schema = client.rpc().schema(&database);
    let name = client.rpc().name.clone();
    let condition = match &version {
        Version::Plain => None,
        Version::Cond(condition) | Version::Since(condition, _) => Some(condition),
    };
    // Only whole tables are watched on a condition, by name.
    let all = condition.is_none() && table == "ALL" && schema.table("ALL").is_none();
    let condition = condition.map(|text| {
        let Some(table) = schema.table(table) else {
            fatal(format_args!(
                "{} does not have a table named \"{table}\"",
                schema.name
            ));
        };
        let json = parse(text).unwrap_or_else(|e| fatal(format_args!("\"{text}\": {e}")));
        check_condition(table, &json);
        json
    });
    let mut watched = Vec::new();
    let mut requests = Map::new();
    let mut add = |table: &Arc<TableSchema>, columns: &[String]| {
        let (w, request) = watch(&name, &schema, table, columns, condition.as_ref());
        requests.insert(table.name.clone(), request);
        watched.push(w);
    };
    if all {
        schema.tables.values().for_each(|table| add(table, columns));
    } else {
        match schema.table(table) {
            Some(table) => add(table, columns),
            None => fatal(format_args!(
                "{name}: {} does not have a table named \"{table}\"",
                schema.name
            )),
        }
    }
    let id = Value::Array(vec!["monid".into(), database.as_str().into()]);
    let mut params = vec![Value::from(database), id.clone(), Value::Object(requests)];
    let method = match &version {
        Version::Plain => "monitor",
        Version::Cond(_) => "monitor_cond",
        Version::Since(_, last_id) => {
            params.push(last_id.as_str().into());
            "monitor_cond_since"
        }
    };
    follow(client, &watched, method, params, &id);
}

/// The commands of a monitor's control socket.
fn register(commands: &mut Commands<Wishes>, id: &Value) {
    let id = id.clone();
    commands.register(
        "ovsdb-client/cond_change",
        "TABLE COND",
        2,
        2,
        move |wishes, asked| {
            let text = |n| asked.arg(n).unwrap_or_default();
            // What cannot be read goes as the text of its error, for the server to refuse.
            let condition = parse(text(2)).unwrap_or_else(|e| Value::from(e.to_string()));
            let mut tables = Map::new();
            tables.insert(text(1).into(), serde_json::json!([{ "where": condition }]));
            let params = vec![id.clone(), id.clone(), Value::Object(tables)];
            wishes
                .requests
                .push(Msg::request("monitor_cond_change", params).0);
            Ok("condition changed".into())
        },
    );
    commands.register("ovsdb-client/block", "", 0, 0, |wishes, _| {
        Ok(match std::mem::replace(&mut wishes.blocked, true) {
            true => "already blocking".into(),
            false => Output::empty(),
        })
    });
    commands.register("ovsdb-client/unblock", "", 0, 0, |wishes, _| {
        Ok(match std::mem::replace(&mut wishes.blocked, false) {
            true => Output::empty(),
            false => "already unblocked".into(),
        })
    });
}

/// Sends the request and prints what comes until the connection ends.
fn follow(client: &mut Client, watched: &[Watched], method: &str, params: Vec<Value>, id: &Value) {
    let detached = client.daemon.detaching();
    client.daemon.keep_stdout();
    client.daemon.keep_stderr();
    client.daemon.daemonize_start(Access::default());
    let mut control = Control::open(detached, |commands| register(commands, id));
    if client.change_aware != Some(false) {
        // Servers that do not know the method do not cancel monitors either.
        client.rpc().send("set_db_change_aware", vec![true.into()]);
    }
    let request = client.rpc().send(method, params);
    while let Some(msg) = control.receive(client.rpc()) {
        handle(client, watched, &request, id, msg);
    }
}

fn handle(client: &mut Client, watched: &[Watched], request: &Value, id: &Value, msg: Msg) {
    match msg {
        Msg::Reply { result, id } if id == *request => {
            match &result {
                Value::Array(parts) if parts.len() == 3 => {
                    let found = parts[0].as_bool().unwrap_or(false);
                    let last_id = parts[1].as_str().unwrap_or_default();
                    println!("found: {found}, last_id: {last_id}");
                    super::monitor_print::print2(client, watched, &parts[2], true);
                }
                updates => super::monitor_print::print_initial(client, watched, updates),
            }
            client.flush();
            client.daemon.daemonize_complete();
        }
        Msg::Error { error, id } if id == *request => {
            fatal(format_args!("monitor failed: {}", to_string(&error)));
        }
        Msg::Notify { method, params } if params.first() == Some(id) => {
            match (method.as_str(), params.as_slice()) {
                ("update", [_, updates]) => {
                    super::monitor_print::print1(client, watched, updates, false);
                }
                ("update2", [_, updates]) => {
                    super::monitor_print::print2(client, watched, updates, false);
                }
                ("update3", [_, last_id, updates]) => {
                    // The table that follows begins with a line of its own, if its format does.
                    print!("\nlast_id: {}", last_id.as_str().unwrap_or_default());
                    super::monitor_print::print2(client, watched, updates, false);
                }
                ("monitor_canceled", _) => {
                    client.flush();
                    let (name, database) = (client.rpc().name.clone(), client.database.clone());
                    fatal(format_args!("{name}: {database} database was removed"));
                }
                _ => {}
            }
            client.flush();
        }
        other => {
            vlog::dbg!(
                modules::OVSDB_CLIENT,
                "unexpected message {}",
                other.to_wire()
            );
        }
    }
}
