//! A database in the server: contents, storage, monitors, waiting transactions, compaction.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::db::{Database, Snapshot};
use crate::exec::{self, Outcome};
use crate::log::file::{LogFile, Replacement};
use crate::log::{Storage, frame, records};
use crate::monitor::{Monitors, SessionId};
use crate::txn::Committed;
use crate::Error;

use super::Now;

/// Where the records go.
pub enum Backing {
    Memory,
    File(LogFile),
}

/// A transaction that waits.
pub(crate) struct Trigger {
    pub session: SessionId,
    pub id: Value,
    pub params: Value,
    pub arrived: Instant,
    pub deadline: Option<Instant>,
}

pub struct Db {
    pub(crate) database: Database,
    pub(crate) backing: Backing,
    pub(crate) monitors: Monitors,
    pub(crate) triggers: Vec<Trigger>,
    /// The contents changed since the triggers ran.
    pub(crate) touched: bool,
    /// Records that were written while a compaction is under way.
    during_compaction: Option<Vec<u8>>,
    /// Records and size of the log after the last compaction.
    base_size: u64,
    n_records: usize,
    last_compaction: Option<Instant>,
    /// Why the storage failed last, for the status.
    storage_error: Option<String>,
}

/// What a compaction has to write, for another thread.
pub struct Compaction {
    snapshot: Snapshot,
    file: Replacement,
    comment: String,
    date_ms: i64,
}

impl Compaction {
    /// Writes and syncs the new file.
    pub fn write(mut self) -> Result<Self, Error> {
        let result = self.try_write();
        match result {
            Ok(()) => Ok(self),
            Err(e) => {
                self.file.abandon();
                Err(e)
            }
        }
    }

    fn try_write(&mut self) -> Result<(), Error> {
        self.file.append(&frame(&records::encode_schema(&self.snapshot.schema)))?;
        let body = records::encode_snapshot(&self.snapshot, &self.comment, self.date_ms);
        // The rows are written; do not keep old versions of them alive any longer.
        self.snapshot.tables.clear();
        self.file.append(&frame(&body))?;
        self.file.sync()
    }
}

impl Db {
    pub fn new(database: Database, backing: Backing) -> Self {
        let base_size = match &backing {
            Backing::File(f) => f.size(),
            Backing::Memory => 0,
        };
        Self {
            database,
            backing,
            monitors: Monitors::default(),
            triggers: Vec::new(),
            touched: false,
            during_compaction: None,
            base_size,
            n_records: 0,
            last_compaction: None,
            storage_error: None,
        }
    }

    pub fn name(&self) -> &str {
        &self.database.schema.name
    }

    pub fn database(&self) -> &Database {
        &self.database
    }

    pub fn n_monitors(&self) -> usize {
        self.monitors.n_groups()
    }

    pub fn n_triggers(&self) -> usize {
        self.triggers.len()
    }

    pub fn is_file(&self) -> bool {
        matches!(self.backing, Backing::File(_))
    }

    /// The error that made the storage unusable, if one did.
    pub fn storage_error(&self) -> Option<&str> {
        self.storage_error.as_deref()
    }

    pub(crate) fn triggers_due(&self, now: Instant) -> bool {
        let expired = |t: &Trigger| t.deadline.is_some_and(|d| d <= now);
        (self.touched && !self.triggers.is_empty()) || self.triggers.iter().any(expired)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.triggers.iter().filter_map(|t| t.deadline).min()
    }

    /// Runs a transaction; on success its record is stored and its changes are on their way to the
    /// monitors.
    pub(crate) fn transact(
        &mut self,
        params: &Value,
        read_only: bool,
        owns_lock: &dyn Fn(&str) -> bool,
        elapsed: Duration,
        now: Now,
        diff: bool,
    ) -> Outcome {
        let Self { database, backing, during_compaction, n_records, storage_error, .. } = self;
        let mut persist = |db: &Database, c: &Committed| {
            let Backing::File(file) = backing else { return Ok(()) };
            let Some(body) = records::encode_txn(db, c, now.wall_ms, diff) else {
                return Ok(());
            };
            let record = frame(&body);
            let stored = file.append(&record).and_then(|()| {
                if c.durable { file.sync() } else { Ok(()) }
            });
            *storage_error = stored.as_ref().err().map(ToString::to_string);
            stored?;
            *n_records += 1;
            if let Some(log) = during_compaction {
                log.extend_from_slice(&record);
            }
            Ok(())
        };
        let outcome = exec::execute(
            database,
            params,
            &mut exec::Context {
                read_only,
                owns_lock,
                elapsed,
                can_wait: true,
                persist: &mut persist,
            },
        );
        if let Outcome::Done(_, c) = &outcome
            && !c.changes.is_empty()
        {
            self.monitors.committed(&c.changes);
            self.touched = true;
        }
        outcome
    }

    /// Starts to write the log anew. None if the database has no file, or one is under way.
    pub fn start_compaction(&mut self, comment: &str, now: Now) -> Result<Option<Compaction>, Error> {
        let Backing::File(file) = &self.backing else { return Ok(None) };
        if self.during_compaction.is_some() {
            return Ok(None);
        }
        let file = file.replacement()?;
        self.during_compaction = Some(Vec::new());
        self.last_compaction = Some(now.instant);
        Ok(Some(Compaction {
            snapshot: self.database.snapshot(),
            file,
            comment: comment.to_owned(),
            date_ms: now.wall_ms,
        }))
    }

    /// Puts the new log in place, with what was committed meanwhile.
    pub fn finish_compaction(&mut self, written: Result<Compaction, Error>) -> Result<(), Error> {
        let since = self.during_compaction.take().unwrap_or_default();
        let Compaction { mut file, .. } = written?;
        let Backing::File(log) = &mut self.backing else { return Ok(()) };
        let base_size = file.size();
        if !since.is_empty() {
            file.append(&since)?;
        }
        log.install(file)?;
        self.base_size = base_size;
        self.n_records = 0;
        Ok(())
    }

    pub fn compacting(&self) -> bool {
        self.during_compaction.is_some()
    }

    /// True if the log has grown enough since its last compaction that another is worth while.
    pub fn wants_compaction(&self, opened: Instant, now: Instant) -> bool {
        const MIN_AGE: Duration = Duration::from_secs(10 * 60);
        const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
        let Backing::File(file) = &self.backing else { return false };
        let age = now.saturating_duration_since(self.last_compaction.unwrap_or(opened));
        if self.compacting() || age < MIN_AGE || self.n_records == 0 {
            return false;
        }
        let size = file.size();
        let grown = self.n_records >= 100 && size > 10 << 20 && size > self.base_size * 2;
        grown || age >= MAX_AGE
    }

    /// Takes a new schema and contents, and stores both.
    pub(crate) fn replace_contents(&mut self, database: Database, now: Now) -> Result<(), Error> {
        if let Backing::File(log) = &mut self.backing {
            let mut file = log.replacement()?;
            file.append(&frame(&records::encode_schema(&database.schema)))?;
            let body = records::encode_snapshot(&database.snapshot(), "", now.wall_ms);
            file.append(&frame(&body))?;
            log.install(file)?;
            // A compaction that is under way would bring the old schema back.
            self.during_compaction = None;
            self.base_size = log.size();
            self.n_records = 0;
        }
        self.database = database;
        self.touched = true;
        Ok(())
    }
}

