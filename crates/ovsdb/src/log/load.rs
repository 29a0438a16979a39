//! Opening a standalone database: the schema from the first record, the rest replayed.

use std::io::Read;
use std::sync::Arc;

use super::file::{LogFile, Mode, Record, Warn};
use super::records::{self, ApplyError, ReadOptions};
use crate::error::strerror;
use crate::{Database, DatabaseSchema, Error};

pub struct Loaded {
    pub db: Database,
    pub log: LogFile,
    /// Why reading stopped before the end of the file. Everything before is in `db`, and the log
    /// will be cut there when it is written to.
    pub damage: Option<Error>,
    /// The same for a record that can be read, but not be committed.
    pub refused: Option<Error>,
    /// Records after the schema.
    pub n_records: usize,
}

/// Reads the schema alone.
pub fn read_schema_record(log: &mut LogFile) -> Result<DatabaseSchema, Error> {
    log.require_standalone()?;
    match log.read()? {
        Some(json) => DatabaseSchema::from_json(&json),
        None => Err(Error::io(
            &std::io::Error::from(std::io::ErrorKind::UnexpectedEof),
            format!("{}: database file contains no schema", log.name()),
        )),
    }
}

/// Opens and replays; `alternate` is a schema to read the records under in place of the file's.
pub fn load(
    name: &str,
    mode: Mode,
    alternate: Option<DatabaseSchema>,
    warn: Warn<'_>,
) -> Result<Loaded, Error> {
    replay(LogFile::open(name, mode, warn)?, alternate)
}

/// Bytes of a record that is taken into memory whole.
const LONG: u64 = 4 << 20;

/// Why reading ends before the end of the file.
enum Stop {
    Damage(Error),
    Refused(Error),
}

fn apply(
    db: &mut Database,
    log: &mut LogFile,
    record: Record,
    options: ReadOptions,
) -> Result<(), Stop> {
    let (offset, text) = match record {
        Record::Text(offset, text) => (offset, text),
        Record::Long { offset, len } => {
            let done = log
                .reread(offset, len, |body| {
                    records::apply_streamed(db, body, options)
                })
                .map_err(Stop::Damage)?;
            match done {
                Some(Ok(_)) => return Ok(()),
                Some(Err(ApplyError::Refused(e))) => return Err(Stop::Refused(e)),
                // Something is wrong or out of the ordinary: all of it at once.
                _ => {}
            }
            let mut text = Vec::new();
            log.reread(offset, len, |body| body.read_to_end(&mut text))
                .map_err(Stop::Damage)?
                .map_err(|e| Stop::Damage(Error::io(&e, format!("{}: read failed", log.name()))))?;
            (offset, text)
        }
    };
    let applied = records::apply(db, &text, options);
    applied.map(drop).map_err(|e| match e {
        ApplyError::NotJson(e) => Stop::Damage(log.not_json(offset, text.len(), &e)),
        ApplyError::NotObject => Stop::Damage(log.not_object(offset, text.len())),
        ApplyError::Invalid(e) => Stop::Damage(e),
        ApplyError::Refused(e) => Stop::Refused(e),
    })
}

/// Replays a log that was opened.
pub fn replay(mut log: LogFile, alternate: Option<DatabaseSchema>) -> Result<Loaded, Error> {
    let own = read_schema_record(&mut log)?;
    let options = ReadOptions {
        converting: alternate.is_some(),
    };
    let mut db = Database::new(Arc::new(alternate.unwrap_or(own)));
    let (mut damage, mut refused) = (None, None);
    let mut n_records = 0;
    while damage.is_none() && refused.is_none() {
        let applied = match log.next(LONG) {
            Ok(None) => break,
            Ok(Some(record)) => apply(&mut db, &mut log, record, options),
            Err(e) => Err(Stop::Damage(e)),
        };
        match applied {
            Ok(()) => {
                log.accept();
                n_records += 1;
            }
            Err(Stop::Damage(e)) => damage = Some(e),
            Err(Stop::Refused(e)) => refused = Some(e),
        }
    }
    Ok(Loaded {
        db,
        log,
        damage,
        refused,
        n_records,
    })
}

/// A schema from a file of its own.
pub fn schema_from_file(name: &str) -> Result<DatabaseSchema, Error> {
    let read = |why: String| {
        Error::new(
            "failed to read schema",
            format!("\"{name}\" could not be read as JSON ({why})"),
        )
    };
    let mut file = std::fs::File::open(name)
        .map_err(|e| read(format!("error opening \"{name}\": {}", strerror(&e))))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)
        .map_err(|e| read(format!("error reading JSON stream: {}", strerror(&e))))?;
    let json = crate::json::parse_bytes(&text).map_err(|e| read(e.to_string()))?;
    DatabaseSchema::from_json(&json)
        .map_err(|e| e.context(&format!("failed to parse \"{name}\" as ovsdb schema")))
}
