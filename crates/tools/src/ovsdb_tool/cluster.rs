//! Commands about clustered databases: making their files, and what the first record says.

use std::collections::BTreeSet;
use std::process::ExitCode;

use serde_json::Value;

use ferrovs_ovsdb::log::Storage;
use ferrovs_ovsdb::log::file::{LogFile, Magic, Mode};
use ferrovs_ovsdb::log::load::{replay, schema_from_file};
use ferrovs_ovsdb::log::records::{self, Info};
use ferrovs_ovsdb::parser::is_id;
use ferrovs_ovsdb::{DatabaseSchema, Error, json, uuid};
use ferrovs_raft::types::{check_address, check_target, short};
use ferrovs_raft::{Entry, Header, HeaderState, Record, RecordBody, Servers, Snapshot, record};
use ferrovs_runtime::{clock, fatal, vlog};

use super::show_log::{Names, show_changes, show_when};
use super::{Context, warn};

type Result<T = ExitCode> = std::result::Result<T, Error>;

/// The index and term of the first snapshot.
const FIRST: u64 = 1;

/// What a new cluster begins with: a name, and `[schema, transaction]`.
fn contents(file: &str) -> Result<(String, String)> {
    let (schema, data) = match LogFile::open(file, Mode::ReadOnly, &warn) {
        Ok(log) => {
            let loaded = replay(log, None)?;
            if let Some(damage) = loaded.damage {
                return Err(damage);
            }
            let (mut body, now) = (Vec::new(), clock::wall_ms());
            let comment = format!("created from {file}");
            records::write_snapshot(&loaded.db.snapshot(), &comment, now, true, &mut |piece| {
                body.extend_from_slice(piece);
                Ok(())
            })?;
            let body = String::from_utf8_lossy(&body).trim_end().to_owned();
            (loaded.db.schema.as_ref().clone(), body)
        }
        Err(e) if e.to_string().ends_with(": unexpected file format") && is_json(file) => {
            (schema_from_file(file)?, "{}".to_owned())
        }
        Err(e) => return Err(e),
    };
    let mut schema_json = schema.to_json();
    make_persistent(&mut schema_json, file, &schema.name);
    let data = format!("[{},{data}]", json::to_string(&schema_json));
    Ok((schema.name, data))
}

fn is_json(file: &str) -> bool {
    std::fs::read(file).is_ok_and(|text| json::parse_bytes(&text).is_ok())
}

/// Clusters keep all columns.
fn make_persistent(schema: &mut Value, file: &str, name: &str) {
    let mut changed = 0;
    let mut example = None;
    let tables = schema.get_mut("tables").and_then(Value::as_object_mut);
    for (table, schema) in tables.into_iter().flatten() {
        let columns = schema.get_mut("columns").and_then(Value::as_object_mut);
        for (column, schema) in columns.into_iter().flatten() {
            let ephemeral = schema.as_object_mut().and_then(|s| s.remove("ephemeral"));
            if ephemeral.is_some() {
                changed += 1;
                example.get_or_insert_with(|| (column.clone(), table.clone()));
            }
        }
    }
    if let Some((column, table)) = example {
        vlog::warn!(
            vlog::modules::OVSDB,
            "{file}: changed {changed} columns in '{name}' database from ephemeral to persistent, \
             including '{column}' column in '{table}' table, because clusters do not support \
             ephemeral columns"
        );
    }
}

/// Refuses what is no address, and logs why.
fn check(address: &str) -> Result<()> {
    let result = check_address(address);
    if let (Err(_), Some(Err(why))) = (&result, address.get(4..).map(check_target))
        && address.is_char_boundary(4)
        && matches!(&address[..4], "tcp:" | "ssl:")
    {
        vlog::err!(vlog::modules::SOCKET_UTIL, "{why}");
    }
    result
}

fn create(db: &str, records: &[Vec<u8>]) -> Result {
    let mut log = LogFile::open(db, Mode::Create, &warn)?;
    for record in records {
        log.append(record)?;
    }
    log.sync()?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn create_cluster(cx: &Context) -> Result {
    let local = cx.arg(2).unwrap_or_default();
    let (name, data) = contents(cx.arg(1).unwrap_or_default())?;
    check(local)?;
    let server = uuid::random();
    let snapshot = Snapshot {
        index: FIRST,
        term: FIRST,
        eid: uuid::random(),
        data: data.into(),
        servers: Servers::from([(server, local.to_owned())]).into(),
        election_timer: ferrovs_raft::types::ELECTION_TIMER,
    };
    let header = Header {
        server,
        local_address: local.to_owned(),
        name,
        state: HeaderState::Member {
            cluster: uuid::random(),
            snapshot,
        },
    };
    let mut records = vec![header.encode()];
    if let Some(ms) = cx.election_timer {
        let entry = Entry {
            term: FIRST,
            election_timer: Some(ms),
            ..Entry::default()
        };
        let index = FIRST + 1;
        records.push(Record::from(RecordBody::Entry { index, entry }).encode());
    }
    create(&cx.db(0), &records)
}

pub(super) fn join_cluster(cx: &Context) -> Result {
    let name = cx.arg(1).unwrap_or_default();
    let local = cx.arg(2).unwrap_or_default();
    if !is_id(name) {
        fatal(format_args!(
            "{name}: not a valid schema name (use \"schema-name\" command to find the correct name)"
        ));
    }
    let remotes: BTreeSet<String> = (3..).map_while(|i| cx.arg(i).map(str::to_owned)).collect();
    let remotes: Vec<String> = remotes.into_iter().collect();
    for address in std::iter::once(local).chain(remotes.iter().map(String::as_str)) {
        check(address)?;
    }
    let header = record::joining(uuid::random(), name, local, cx.cid, &remotes)?;
    if remotes.iter().any(|address| address == local) {
        return Err(Error::ovsdb(
            "remote addresses cannot be the same as the local address",
        ));
    }
    create(&cx.db(0), &[header.encode()])
}

fn header(log: &mut LogFile) -> Result<Header> {
    match log.read()? {
        Some(json) => Header::decode(&json),
        None => Err(Error::ovsdb(format!(
            "{}: file contains no header",
            log.name()
        ))),
    }
}

/// The first record of a file that has to be a clustered database's.
fn clustered(name: &str) -> Result<Header> {
    let mut log = LogFile::open(name, Mode::ReadOnly, &warn)?;
    if log.magic() == Magic::Json {
        fatal(format_args!("{name}: not a clustered database"));
    }
    header(&mut log)
}

/// The database's name, of a clustered file alone.
pub(super) fn name(log: &mut LogFile) -> Result<String> {
    Ok(header(log)?.name)
}

fn print(text: impl std::fmt::Display) -> Result {
    println!("{text}");
    Ok(ExitCode::SUCCESS)
}

pub(super) fn db_cid(cx: &Context) -> Result {
    let name = cx.db(0);
    match clustered(&name)?.state {
        HeaderState::Member { cluster, .. } => print(cluster),
        HeaderState::Joining {
            cluster: Some(cluster),
            ..
        } => print(cluster),
        HeaderState::Joining { cluster: None, .. } => {
            eprintln!("{name}: cluster ID not yet known");
            Ok(ExitCode::from(2))
        }
    }
}

pub(super) fn db_sid(cx: &Context) -> Result {
    print(clustered(&cx.db(0))?.server)
}

pub(super) fn db_local_address(cx: &Context) -> Result {
    print(clustered(&cx.db(0))?.local_address)
}

fn servers_text(servers: &Servers) -> String {
    let one = |(id, address): (&_, &String)| format!("{}(\"{address}\")", short(*id));
    servers.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn show_header(h: &Header, shown: &mut Shown) -> Result<()> {
    // The second mark of the name is Open vSwitch's.
    println!(" name: \"{}'", h.name);
    println!(" local address: \"{}\"", h.local_address);
    println!(" server_id: {}", short(h.server));
    match &h.state {
        HeaderState::Joining { cluster, remotes } => {
            if let Some(id) = cluster {
                println!(" cluster_id: {}", short(*id));
            }
            println!(" remote_addresses: {}", remotes.join(" "));
            println!();
        }
        HeaderState::Member { cluster, snapshot } => {
            println!(" cluster_id: {}", short(*cluster));
            println!(" prev_index: {}", snapshot.index);
            println!(" prev_term: {}", snapshot.term);
            println!(" prev_servers: {}", servers_text(&snapshot.servers));
            println!(" prev_eid: {}", short(snapshot.eid));
            print_data("prev_", &snapshot.data, shown)?;
        }
    }
    Ok(())
}

fn show_record(r: &Record, shown: &mut Shown) -> Result<()> {
    if let Some(comment) = &r.comment {
        println!(" comment: \"{comment}\"");
    }
    match &r.body {
        RecordBody::Term(term) => println!(" term: {term}"),
        RecordBody::Vote { term, vote } => println!(" term: {term}\n vote: {}", short(*vote)),
        RecordBody::Leader { term, leader } => {
            println!(" term: {term}\n leader: {}", short(*leader));
        }
        RecordBody::CommitIndex(index) => println!(" commit_index: {index}"),
        RecordBody::Note(note) => println!(" note: \"{note}\""),
        RecordBody::Entry { index, entry } => {
            println!(" term: {}\n index: {index}", entry.term);
            if let Some(servers) = &entry.servers {
                println!(" servers: {}", servers_text(servers));
            }
            if let Some(payload) = &entry.payload {
                println!(" eid: {}", short(payload.eid));
                return print_data("", &payload.data, shown);
            }
        }
    }
    println!();
    Ok(())
}

/// What `show-log` has to remember of earlier records.
struct Shown {
    more: u32,
    schema: Option<DatabaseSchema>,
    names: Names,
}

/// Shows the data of a snapshot or an entry, and ends the record.
fn print_data(prefix: &str, data: &str, shown: &mut Shown) -> Result<()> {
    let data = json::parse(data).unwrap_or_default();
    if let Some(schema) = data.get(0).filter(|schema| !schema.is_null()) {
        let s = DatabaseSchema::from_json(schema)?;
        println!(
            " {prefix}schema: \"{}\", version=\"{}\", cksum=\"{}\"",
            s.name, s.version, s.cksum
        );
        shown.schema = Some(s);
    }
    let Some(changes) = data.get(1).filter(|changes| changes.is_object()) else {
        println!();
        return Ok(());
    };
    let info = Info::from_json(changes);
    show_when(&info);
    if shown.more > 0
        && let Some(schema) = &shown.schema
        && show_changes(schema, changes, info.is_diff, shown.more, &mut shown.names)
    {
        println!();
    }
    Ok(())
}

/// `show-log` of a clustered file.
pub(super) fn show_log(log: &mut LogFile, more: u32) -> Result {
    let mut shown = Shown {
        more,
        schema: None,
        names: Names::new(),
    };
    for i in 0.. {
        let Some(json) = log.read()? else { break };
        if i == 0 {
            let header = Header::decode(&json)?;
            println!("record 0:");
            show_header(&header, &mut shown)?;
        } else {
            let record = Record::decode(&json)?;
            println!("record {i}:");
            show_record(&record, &mut shown)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
