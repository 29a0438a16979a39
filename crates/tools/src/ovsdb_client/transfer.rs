//! `backup` and `restore`: a database's contents in the form of a database file.
//!
//! A backup is a schema and one record with every row. What is restored may be any standalone
//! database's file: it is replayed in memory, and one transaction replaces everything in the server's
//! database by what it comes to. Rows get new UUIDs, and references follow them.

use super::Client;
use super::data::select_rows;
use ferrovs_ovsdb::log::disk::{Disk, DiskFile, FileId, FileSystem, Warn};
use ferrovs_ovsdb::log::file::{LogFile, Mode};
use ferrovs_ovsdb::log::lockfile::Lockfile;
use ferrovs_ovsdb::log::{frame, load};
use ferrovs_ovsdb::{DatabaseSchema, uuid};
use ferrovs_runtime::vlog::{self, modules};
use ferrovs_runtime::{clock, fatal, fatal_io};
use ferrovs_stream::json::{Map, Value, to_string};
use std::collections::BTreeSet;
use std::io::{self, Cursor, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const COMMENT: &str = "produced by \"ovsdb-client backup\"";

pub(super) fn backup(client: &mut Client, _: Vec<String>) {
    if io::stdout().is_terminal() {
        fatal("not writing backup to a terminal; please redirect stdout to a file");
    }
    let database = client.database.clone();
    let schema = client.rpc().schema(&database);
    let mut transaction = vec![Value::from(database)];
    for table in schema.tables.values() {
        let mut columns: Vec<Value> = table
            .own_columns()
            .iter()
            .filter(|c| c.persistent)
            .map(|c| Value::from(c.name.as_str()))
            .collect();
        columns.push("_uuid".into());
        transaction.push(serde_json::json!({
            "op": "select", "table": table.name, "where": [], "columns": columns
        }));
    }
    let mut result = client.rpc().call("transact", transaction);
    let mut record = Map::new();
    for (i, table) in schema.tables.values().enumerate() {
        let mut rows = Map::new();
        for mut row in select_rows(&mut result, i, &table.name) {
            let id = row
                .pointer("/_uuid/1")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_string();
            if let Value::Object(members) = &mut row {
                members.remove("_uuid");
            }
            rows.insert(id, row);
        }
        if !rows.is_empty() {
            record.insert(table.name.clone(), Value::Object(rows));
        }
    }
    record.insert("_date".into(), clock::wall_ms().into());
    record.insert("_comment".into(), COMMENT.into());
    // A first record of differences is one of whole rows; so it says which kind of file this is.
    record.insert("_is_diff".into(), true.into());
    let mut out = io::stdout().lock();
    let line = |json: &Value| frame((to_string(json) + "\n").as_bytes());
    let written = out
        .write_all(&line(&schema.to_json()))
        .and_then(|()| out.write_all(&line(&Value::Object(record))));
    if let Err(e) = written.and_then(|()| out.flush()) {
        fatal_io(&e, "write to stdout failed");
    }
}

/// The standard input as the one file of a disk. What cannot be sought in is kept in memory.
#[derive(Debug)]
struct Stdin;

struct Kept(Cursor<Vec<u8>>);

impl Read for Kept {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Kept {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Kept {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl DiskFile for Kept {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.get_ref().len() as u64)
    }

    fn set_size(&mut self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn id(&self) -> Option<FileId> {
        None
    }
}

impl Disk for Stdin {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn DiskFile>> {
        let mut stdin = io::stdin().lock();
        if std::fs::metadata(path).is_ok_and(|m| m.is_file()) {
            return FileSystem.open(path, mode);
        }
        let mut bytes = Vec::new();
        stdin.read_to_end(&mut bytes)?;
        Ok(Box::new(Kept(Cursor::new(bytes))))
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn sync_dir(&self, _: &Path) {}

    fn follow(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    fn id(&self, _: &Path) -> Option<FileId> {
        None
    }

    fn lock(&self, _: &Path, _: Warn<'_>) -> io::Result<Option<Lockfile>> {
        Ok(None)
    }
}

pub(super) fn restore(client: &mut Client, _: Vec<String>) {
    if io::stdin().is_terminal() {
        fatal("not reading backup from a terminal; please redirect stdin from a file");
    }
    let loaded = LogFile::open_on(Arc::new(Stdin), "/dev/stdin", Mode::ReadOnly, None)
        .and_then(|log| load::replay(log, None))
        .unwrap_or_else(|e| fatal(e));
    if let Some(e) = loaded.damage.or(loaded.refused) {
        fatal(e);
    }
    let backup = loaded.db;
    let database = client.database.clone();
    let target = client.rpc().schema(&database);
    check_schemas(&backup.schema, &target, client.force);
    let mut transaction = vec![Value::from(database)];
    for table in backup.tables() {
        let name = &table.schema.name;
        transaction.push(serde_json::json!({ "op": "delete", "table": name, "where": [] }));
    }
    let ids: BTreeSet<String> = backup
        .tables()
        .iter()
        .flat_map(|table| table.iter().map(|row| row.uuid.to_string()))
        .collect();
    for table in backup.tables() {
        for row in table.iter() {
            let mut values = Map::new();
            for column in table.schema.own_columns() {
                let value = row.field(column.index);
                if column.persistent && *value != column.default {
                    let mut json = value.to_json(&column.ty);
                    substitute(&mut json, &ids);
                    values.insert(column.name.clone(), json);
                }
            }
            transaction.push(serde_json::json!({
                "op": "insert", "table": table.schema.name, "row": values,
                "uuid-name": named(&row.uuid.to_string()),
            }));
        }
    }
    let result = client.rpc().call("transact", transaction);
    let failed = result
        .as_array()
        .into_iter()
        .flatten()
        .find(|result| result.get("error").is_some());
    if let Some(error) = failed {
        let text = to_string(error);
        fatal(format_args!("server returned error reply: {text}"));
    }
}

fn named(id: &str) -> String {
    format!("row{}", id.replace('-', "_"))
}

/// Turns references to restored rows into references by name, as all get new UUIDs.
fn substitute(json: &mut Value, ids: &BTreeSet<String>) {
    let Value::Array(items) = json else { return };
    if let [Value::String(tag), Value::String(id)] = items.as_mut_slice()
        && tag == "uuid"
        && uuid::parse(id).is_some()
        && ids.contains(id.as_str())
    {
        *tag = "named-uuid".into();
        *id = named(id);
        return;
    }
    items.iter_mut().for_each(|item| substitute(item, ids));
}

fn check_schemas(backup: &DatabaseSchema, target: &DatabaseSchema, force: bool) {
    if to_string(&backup.to_json()) == to_string(&target.to_json()) {
        return;
    }
    let difference = if backup.version == target.version {
        format!(
            "backup schema and database schema are both version {} but still differ",
            backup.version
        )
    } else {
        format!(
            "backup schema has version \"{}\" but database schema has version \"{}\"",
            backup.version, target.version
        )
    };
    if !force {
        fatal(format_args!(
            "{difference} (use --force to override differences, or \"ovsdb-client convert\" to \
             change the schema)"
        ));
    }
    vlog::info!(modules::OVSDB_CLIENT, "{difference}");
}
