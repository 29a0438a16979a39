//! A database in the server: contents, storage, monitors, waiting transactions, compaction.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use ferrovs_json::RawArray;
use serde_json::Value;

use crate::Error;
use crate::db::{Database, Snapshot};
use crate::exec::{self, Outcome};
use crate::log::file::{LogFile, Replacement};
use crate::log::{Storage, frame, records};
use crate::monitor::{Monitors, SessionId};
use crate::rbac::Who;
use crate::txn::{Committed, Txn};

use super::{Access, Now};

/// Where the records go.
pub enum Backing {
    Memory,
    File(LogFile),
}

/// The parameters of a `transact` request.
pub(crate) enum Params {
    Tree(Value),
    /// Of a large request; the first was seen to be the name of a database.
    Text(RawArray),
}

impl Params {
    /// As a tree; of a text that is too large for one, only the fact that there is an array.
    pub fn tree(&self) -> Cow<'_, Value> {
        match self {
            Self::Tree(v) => Cow::Borrowed(v),
            Self::Text(t) => Cow::Owned(t.to_value(exec::MAX_OPERATION).unwrap_or_default()),
        }
    }

    /// Bytes that they take, about.
    fn weight(&self) -> usize {
        match self {
            Self::Tree(v) => crate::json::weight(v),
            Self::Text(t) => t.size(),
        }
    }
}

/// A transaction that waits.
pub(crate) struct Trigger {
    pub session: SessionId,
    pub id: Value,
    pub params: Params,
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
    /// Tables whose changes are to be logged.
    logged: Vec<bool>,
    /// What the log is to say.
    pub(crate) log_lines: Vec<String>,
    pub(crate) n_commits: u64,
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
        self.file
            .append(&frame(&records::encode_schema(&self.snapshot.schema)))?;
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
            logged: Vec::new(),
            log_lines: Vec::new(),
            n_commits: 0,
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

    /// What the waiting transactions of a session take, in bytes.
    pub(crate) fn waiting(&self, session: SessionId) -> usize {
        let of = self.triggers.iter().filter(|t| t.session == session);
        of.map(|t| size_of::<Trigger>() + t.params.weight()).sum()
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
        params: &Params,
        access: &Access,
        owns_lock: &dyn Fn(&str) -> bool,
        elapsed: Duration,
        now: Now,
        diff: bool,
    ) -> Outcome {
        let Self {
            database,
            backing,
            during_compaction,
            n_records,
            storage_error,
            ..
        } = self;
        let mut store = Store {
            backing,
            during_compaction,
            n_records,
            error: storage_error,
        };
        let mut persist = |db: &Database, c: &Committed| store.record(db, c, now.wall_ms, diff);
        let mut cx = exec::Context {
            read_only: access.read_only,
            who: Who {
                role: &access.role,
                client: access.client.as_deref(),
            },
            owns_lock,
            elapsed,
            can_wait: true,
            persist: &mut persist,
        };
        let outcome = match params {
            Params::Tree(params) => exec::execute(database, params, &mut cx),
            Params::Text(params) => exec::execute_text(database, params, &mut cx),
        };
        if let Outcome::Done(_, c) = &outcome
            && !c.changes.is_empty()
        {
            self.committed(c);
        }
        outcome
    }

    pub(crate) fn committed(&mut self, c: &Committed) {
        self.monitors.committed(&c.changes);
        self.log_changes(c);
        self.touched = true;
        self.n_commits += 1;
    }

    /// Whether changes of a table are logged; none if there is no such table.
    pub fn is_logged(&self, table: &str) -> Option<bool> {
        let i = self.database.table_index(table)?;
        Some(self.logged.get(i).copied().unwrap_or(false))
    }

    /// Turns the log of a table's changes on or off; false if there is no such table.
    pub fn set_logged(&mut self, table: &str, on: bool) -> bool {
        let Some(i) = self.database.table_index(table) else {
            return false;
        };
        self.logged.resize(self.database.tables().len(), false);
        self.logged[i] = on;
        true
    }

    fn log_changes(&mut self, c: &Committed) {
        if !self.logged.contains(&true) {
            return;
        }
        for change in &c.changes {
            if !self.logged.get(change.table).copied().unwrap_or(false) {
                continue;
            }
            let schema = &self.database.tables()[change.table].schema;
            let (op, row) = match (&change.old, &change.new) {
                (None, Some(row)) => ("inserted", row),
                (Some(_), Some(row)) => ("updated", row),
                (Some(row), None) => ("deleted", row),
                (None, None) => continue,
            };
            let mut line = format!("table:{},op:{op}", schema.name);
            for column in &schema.columns {
                let value = row.get(column.index).to_text(&column.ty);
                line.push_str(&format!(",{}:{value}", column.name));
            }
            self.log_lines.push(line);
        }
    }

    pub(crate) fn set_columns(
        &mut self,
        table: &str,
        row: crate::Uuid,
        values: &[(&str, crate::Datum)],
        now: Now,
        diff: bool,
    ) -> Result<(), Error> {
        let Some(t) = self.database.table_index(table) else {
            return Ok(());
        };
        let Some(old) = self.database.tables()[t].get(&row).cloned() else {
            return Ok(());
        };
        let schema = std::sync::Arc::clone(&self.database.tables()[t].schema);
        let mut new = old.next();
        for (name, value) in values {
            if let Some(c) = schema.column(name) {
                new.set(c.index, value.clone());
            }
        }
        if new.same_fields(&old) {
            return Ok(());
        }
        let mut txn = Txn::new();
        txn.modify(&mut self.database, t, new);
        let mut store = Store {
            backing: &mut self.backing,
            during_compaction: &mut self.during_compaction,
            n_records: &mut self.n_records,
            error: &mut self.storage_error,
        };
        let done = txn.commit(&mut self.database, &mut |db, c| {
            store.record(db, c, now.wall_ms, diff)
        })?;
        if !done.changes.is_empty() {
            self.committed(&done);
        }
        Ok(())
    }

    /// Starts to write the log anew. None if the database has no file, or one is under way.
    pub fn start_compaction(
        &mut self,
        comment: &str,
        now: Now,
    ) -> Result<Option<Compaction>, Error> {
        let Backing::File(file) = &self.backing else {
            return Ok(None);
        };
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
        let Backing::File(log) = &mut self.backing else {
            return Ok(());
        };
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
        let Backing::File(file) = &self.backing else {
            return false;
        };
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
        self.logged.clear();
        self.touched = true;
        self.n_commits += 1;
        Ok(())
    }
}

/// What takes records: the parts of a `Db` that are not its contents.
struct Store<'a> {
    backing: &'a mut Backing,
    during_compaction: &'a mut Option<Vec<u8>>,
    n_records: &'a mut usize,
    error: &'a mut Option<String>,
}

impl Store<'_> {
    fn record(
        &mut self,
        db: &Database,
        c: &Committed,
        date_ms: i64,
        diff: bool,
    ) -> Result<(), Error> {
        let Backing::File(file) = &mut *self.backing else {
            return Ok(());
        };
        let Some(body) = records::encode_txn(db, c, date_ms, diff) else {
            return Ok(());
        };
        let record = frame(&body);
        let stored = file
            .append(&record)
            .and_then(|()| if c.durable { file.sync() } else { Ok(()) });
        *self.error = stored.as_ref().err().map(ToString::to_string);
        stored?;
        *self.n_records += 1;
        if let Some(log) = self.during_compaction {
            log.extend_from_slice(&record);
        }
        Ok(())
    }
}
