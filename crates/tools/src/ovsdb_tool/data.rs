//! Commands that make, read and change databases.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ferrovs_ovsdb::error::strerror;
use ferrovs_ovsdb::exec::{self, Outcome};
use ferrovs_ovsdb::log::disk::{Disk, FileSystem};
use ferrovs_ovsdb::log::file::{LogFile, Mode};
use ferrovs_ovsdb::log::load::{Loaded, replay, schema_from_file};
use ferrovs_ovsdb::log::lockfile::Lockfile;
use ferrovs_ovsdb::log::{Storage, frame, records};
use ferrovs_ovsdb::rbac::Who;
use ferrovs_ovsdb::{Database, DatabaseSchema, Error, json};
use ferrovs_runtime::{clock, fatal, version};

use super::{Context, warn};

type Result<T = ExitCode> = std::result::Result<T, Error>;

pub(super) fn create(cx: &Context) -> Result {
    let schema = schema_from_file(&cx.schema(1))?;
    let mut log = LogFile::open(&cx.db(0), Mode::Create, &warn)?;
    log.append(&frame(&records::encode_schema(&schema)))?;
    log.sync()?;
    Ok(ExitCode::SUCCESS)
}

/// Opens a database that has to be readable to its end.
fn open(name: &str, mode: Mode) -> Result<(Database, LogFile)> {
    intact(replay(LogFile::open(name, mode, &warn)?, None)?)
}

/// What a record refused to do is passed over, as it is by Open vSwitch.
fn intact(loaded: Loaded) -> Result<(Database, LogFile)> {
    match loaded.damage {
        Some(e) => Err(e),
        None => Ok((loaded.db, loaded.log)),
    }
}

fn lock(path: &Path) -> Option<Lockfile> {
    match Lockfile::lock(path, &warn) {
        Ok(lock) => Some(lock),
        Err(e) => fatal(format_args!(
            "{}: failed to lock lockfile ({})",
            path.display(),
            strerror(&e)
        )),
    }
}

/// Writes the contents of a database as a new file, in place of the old one or to `dst`.
fn write_anew(src: &str, dst: Option<&str>, schema: Option<DatabaseSchema>, verb: &str) -> Result {
    let disk = Arc::new(FileSystem);
    // In place, the file is written beside the old one. Locks first: what is read must not change.
    let (source, target, _source_lock) = match dst {
        Some(dst) => (PathBuf::from(src), PathBuf::from(dst), None),
        None => {
            let source = disk.follow(Path::new(src));
            let mut target = source.clone().into_os_string();
            target.push(".tmp");
            let source_lock = lock(&source);
            (source, target.into(), source_lock)
        }
    };
    let target_lock = lock(&target);
    let source = source.to_string_lossy();
    let log = LogFile::open_on(disk.clone(), &source, Mode::ReadOnly, None)?;
    let (db, _) = intact(replay(log, schema)?)?;
    let name = target.to_string_lossy();
    let mut new = LogFile::open_on(disk.clone(), &name, Mode::OpenOrCreate, target_lock)?;
    let comment = format!("{verb} by ovsdb-tool {}", version::VERSION);
    let body = records::encode_snapshot(&db.snapshot(), &comment, clock::wall_ms());
    let written = new
        .append(&frame(&records::encode_schema(&db.schema)))
        .and_then(|()| new.append(&frame(&body)))
        .and_then(|()| new.sync());
    if written.is_err() {
        // Half a database is worse than none.
        let _ = disk.remove(&target);
    }
    written?;
    if dst.is_none() {
        let to = Path::new(&*source);
        if let Err(e) = disk.rename(&target, to) {
            fatal(format_args!(
                "failed to rename \"{name}\" to \"{source}\" ({})",
                strerror(&e)
            ));
        }
        disk.sync_dir(to.parent().unwrap_or(Path::new("")));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn compact(cx: &Context) -> Result {
    write_anew(&cx.db(0), cx.arg(1), None, "compacted")
}

pub(super) fn convert(cx: &Context) -> Result {
    let schema = schema_from_file(&cx.schema(1))?;
    write_anew(&cx.db(0), cx.arg(2), Some(schema), "converted")
}

pub(super) fn query(cx: &Context) -> Result {
    run(cx, false)
}

pub(super) fn transact(cx: &Context) -> Result {
    run(cx, true)
}

fn run(cx: &Context, write: bool) -> Result {
    let (name, text) = match (cx.arg(0), cx.arg(1)) {
        (Some(db), Some(t)) => (db.to_owned(), t),
        (t, _) => (super::default_db(), t.unwrap_or_default()),
    };
    let mode = if write {
        Mode::ReadWrite
    } else {
        Mode::ReadOnly
    };
    let (mut db, mut log) = open(&name, mode)?;
    let params = json::parse(text).unwrap_or_else(|e| fatal(format_args!("\"{text}\": {e}")));
    // A query that changes something fails here, since its file cannot be written to.
    let mut persist = |db: &Database, c: &ferrovs_ovsdb::txn::Committed| -> Result<()> {
        if let Some(body) = records::encode_txn(db, c, clock::wall_ms(), true) {
            log.append(&frame(&body))?;
            if c.durable {
                log.sync()?;
            }
        }
        Ok(())
    };
    let outcome = exec::execute(
        &mut db,
        &params,
        &mut exec::Context {
            read_only: false,
            who: Who {
                role: cx.rbac_role.as_deref().unwrap_or(""),
                client: None,
            },
            owns_lock: &|_| false,
            elapsed: Duration::ZERO,
            can_wait: false,
            forward: false,
            persist: &mut persist,
        },
    );
    if let Outcome::Done(reply, _) = outcome {
        println!("{}", String::from_utf8_lossy(&reply));
    }
    Ok(ExitCode::SUCCESS)
}
