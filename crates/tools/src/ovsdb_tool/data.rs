//! Commands that make, read and change databases.

use std::process::ExitCode;
use std::time::Duration;

use ferrovs_ovsdb::exec::{self, Outcome};
use ferrovs_ovsdb::log::file::{LogFile, Mode};
use ferrovs_ovsdb::log::load::{Loaded, load, schema_from_file};
use ferrovs_ovsdb::log::{Storage, frame, records};
use ferrovs_ovsdb::rbac::Who;
use ferrovs_ovsdb::{Database, Error, json};
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

/// Opens a database that has to be intact.
fn open(
    name: &str,
    mode: Mode,
    schema: Option<ferrovs_ovsdb::DatabaseSchema>,
) -> Result<(Database, LogFile)> {
    let Loaded {
        db, log, damage, ..
    } = load(name, mode, schema, &warn)?;
    match damage {
        Some(e) => Err(e),
        None => Ok((db, log)),
    }
}

/// Writes the contents as a new file, in place of the old one or to `dst`.
fn write_anew(db: &Database, log: &mut LogFile, dst: Option<&str>, verb: &str) -> Result {
    let comment = format!("{verb} by ovsdb-tool {}", version::VERSION);
    let schema = frame(&records::encode_schema(&db.schema));
    let body = records::encode_snapshot(&db.snapshot(), &comment, clock::wall_ms());
    match dst {
        Some(dst) => {
            let mut new = LogFile::open(dst, Mode::OpenOrCreate, &warn).map_err(|mut e| {
                if let Some(d) = &mut e.details {
                    *d = d.replace(": create failed", ": create or open failed");
                }
                e
            })?;
            new.append(&schema)?;
            new.append(&frame(&body))?;
            new.sync()?;
        }
        None => {
            let mut new = log.replacement()?;
            new.append(&schema)?;
            new.append(&frame(&body))?;
            log.install(new)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn compact(cx: &Context) -> Result {
    let mode = if cx.arg(1).is_some() {
        Mode::ReadOnly
    } else {
        Mode::ReadWrite
    };
    let (db, mut log) = open(&cx.db(0), mode, None)?;
    write_anew(&db, &mut log, cx.arg(1), "compacted")
}

pub(super) fn convert(cx: &Context) -> Result {
    let schema = schema_from_file(&cx.schema(1))?;
    let mode = if cx.arg(2).is_some() {
        Mode::ReadOnly
    } else {
        Mode::ReadWrite
    };
    let (db, mut log) = open(&cx.db(0), mode, Some(schema))?;
    write_anew(&db, &mut log, cx.arg(2), "converted")
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
    let params = json::parse(text).unwrap_or_else(|e| fatal(format_args!("\"{text}\": {e}")));
    let mode = if write {
        Mode::ReadWrite
    } else {
        Mode::ReadOnly
    };
    let (mut db, mut log) = open(&name, mode, None)?;
    let mut persist = |db: &Database, c: &ferrovs_ovsdb::txn::Committed| -> Result<()> {
        if !write {
            return Ok(());
        }
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
            persist: &mut persist,
        },
    );
    if let Outcome::Done(reply, _) = outcome {
        println!("{}", String::from_utf8_lossy(&reply));
    }
    Ok(ExitCode::SUCCESS)
}
