//! A database in the server: contents, storage, monitors, waiting transactions, compaction.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ferrovs_json::RawArray;
use serde_json::Value;

use crate::Error;
use crate::db::{Database, Snapshot};
use crate::exec::{self, Outcome};
use crate::log::file::{LogFile, Replacement, Retired};
use crate::log::schedule::Schedule;
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

    /// As text.
    pub fn text(&self) -> Vec<u8> {
        match self {
            Self::Tree(v) => {
                let mut out = Vec::new();
                crate::json::write(&mut out, v);
                out
            }
            Self::Text(t) => t.text().to_vec(),
        }
    }
}

/// How far a request has come that another server is to fulfil.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Forward {
    /// Nobody else has to do with it.
    #[default]
    No,
    /// It is to be sent.
    Waiting,
    /// It was sent under this number.
    Sent(u64),
}

/// A transaction that waits.
pub(crate) struct Trigger {
    pub session: SessionId,
    pub id: Value,
    /// `transact`, or another method that is to be forwarded.
    pub method: &'static str,
    pub params: Params,
    pub forward: Forward,
    pub arrived: Instant,
    pub deadline: Option<Instant>,
}

pub struct Db {
    /// The file that the last compaction replaced, until somebody has the time to close it.
    retired: Option<Retired>,
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
    /// Clients may not change it: its contents come from another server.
    pub read_only: bool,
    /// What is known of the server that this database relays.
    pub(crate) relay: Option<super::mirror::Relayed>,
    /// The compaction that is under way.
    during_compaction: Option<During>,
    /// When the log is due to be compacted by itself; set when that is first asked.
    schedule: Option<Schedule>,
    /// The last one failed, and the next was not put off yet.
    compaction_failed: bool,
    /// Why the storage failed last, for the status.
    storage_error: Option<String>,
}

/// A compaction that is under way: which one, and the records that were written since it began.
struct During {
    id: u64,
    records: Vec<u8>,
    len: usize,
}

/// What a compaction has to write, for another thread.
pub struct Compaction {
    id: u64,
    snapshot: Snapshot,
    file: Replacement,
    comment: String,
    date_ms: i64,
    diff: bool,
    /// About how long the record will be.
    expected: u64,
}

impl Compaction {
    /// Writes and syncs the new file.
    pub fn write(mut self) -> Result<Self, Error> {
        write_snapshot(
            &mut self.file,
            &self.snapshot,
            &self.comment,
            self.date_ms,
            self.diff,
            self.expected,
        )?;
        // The rows are written; do not keep old versions of them alive any longer.
        self.snapshot.tables.clear();
        self.file.sync()?;
        Ok(self)
    }
}

/// Writes a log of two records: the schema, and all the rows if there are any.
fn write_snapshot(
    file: &mut Replacement,
    s: &Snapshot,
    comment: &str,
    date_ms: i64,
    diff: bool,
    expected: u64,
) -> Result<(), Error> {
    file.append(&frame(&records::encode_schema(&s.schema)))?;
    file.append_streamed(expected, |sink| {
        records::write_snapshot(s, comment, date_ms, diff, sink)
    })
}

impl Db {
    pub fn new(database: Database, backing: Backing) -> Self {
        Self {
            database,
            backing,
            monitors: Monitors::default(),
            triggers: Vec::new(),
            touched: false,
            logged: Vec::new(),
            log_lines: Vec::new(),
            n_commits: 0,
            read_only: false,
            relay: None,
            during_compaction: None,
            schedule: None,
            compaction_failed: false,
            retired: None,
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
        self.monitors.n_views()
    }

    /// Initial contents that Open vSwitch would keep as text.
    pub fn n_json_caches(&self) -> usize {
        self.monitors.n_fresh()
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
        let triggers = self.triggers.iter().filter_map(|t| t.deadline);
        triggers.chain(self.compaction_due()).min()
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
            storage_error,
            ..
        } = self;
        let mut store = Store {
            backing,
            during_compaction,
            error: storage_error,
        };
        let mut persist = |db: &Database, c: &Committed| store.record(db, c, now.wall_ms, diff);
        let mut cx = exec::Context {
            read_only: access.read_only || self.read_only,
            who: Who {
                role: &access.role,
                client: access.client.as_deref(),
            },
            owns_lock,
            elapsed,
            can_wait: true,
            forward: self.relay.is_some(),
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
        self.change(now, diff, |db, txn| {
            txn.modify(db, t, new);
            Ok(())
        })
    }

    /// Changes the contents on the server's own account, all of it or nothing.
    pub(crate) fn change(
        &mut self,
        now: Now,
        diff: bool,
        change: impl FnOnce(&mut Database, &mut Txn) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut txn = Txn::new();
        if let Err(e) = change(&mut self.database, &mut txn) {
            txn.rollback(&mut self.database);
            return Err(e);
        }
        let mut store = Store {
            backing: &mut self.backing,
            during_compaction: &mut self.during_compaction,
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
        diff: bool,
        now: Now,
    ) -> Result<Option<Compaction>, Error> {
        let Backing::File(file) = &self.backing else {
            return Ok(None);
        };
        if self.during_compaction.is_some() {
            return Ok(None);
        }
        let expected = file.size();
        let file = file
            .replacement()
            .inspect_err(|_| self.compaction_failed = true)?;
        // Another database may have been loaded from the same file meanwhile.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        self.during_compaction = Some(During {
            id,
            records: Vec::new(),
            len: 0,
        });
        Ok(Some(Compaction {
            id,
            expected,
            snapshot: self.database.snapshot(),
            file,
            comment: comment.to_owned(),
            date_ms: now.wall_ms,
            diff,
        }))
    }

    /// Puts the new log in place, with what was committed meanwhile. One that was overtaken by a
    /// conversion, or was begun before the file was closed and opened again, comes to nothing.
    pub fn finish_compaction(&mut self, written: Result<Compaction, Error>) -> Result<(), Error> {
        let current = self.during_compaction.as_ref().map(|d| d.id);
        let overtaken = written.as_ref().is_ok_and(|c| Some(c.id) != current);
        if overtaken {
            return Ok(());
        }
        let since = self.during_compaction.take();
        let result = written.and_then(|c| self.install(c.file, since));
        match &result {
            // The next time is counted from now.
            Ok(()) => self.schedule = None,
            Err(_) => self.compaction_failed = true,
        }
        result
    }

    fn install(&mut self, mut file: Replacement, since: Option<During>) -> Result<(), Error> {
        let Backing::File(log) = &mut self.backing else {
            return Ok(());
        };
        if let Some(since) = since {
            file.append_news(&since.records, since.len)?;
        }
        self.retired = log.install_retiring(file)?;
        self.storage_error = None;
        Ok(())
    }

    /// The file that a compaction replaced. To drop it takes long.
    pub fn take_retired(&mut self) -> Option<Retired> {
        self.retired.take()
    }

    pub fn compacting(&self) -> bool {
        self.during_compaction.is_some()
    }

    /// True if the log has grown enough since its last compaction that another is worth while.
    pub(crate) fn wants_compaction(&mut self, now: Instant) -> bool {
        let schedule = self.schedule.get_or_insert_with(|| Schedule::new(now));
        if std::mem::take(&mut self.compaction_failed) {
            schedule.retry(now);
        }
        self.compaction_due().is_some_and(|due| due <= now)
    }

    fn compaction_due(&self) -> Option<Instant> {
        let (Backing::File(log), Some(schedule), None) =
            (&self.backing, &self.schedule, &self.during_compaction)
        else {
            return None;
        };
        log.due(schedule)
    }

    /// Takes a new schema and contents, and stores both.
    pub(crate) fn replace_contents(
        &mut self,
        database: Database,
        diff: bool,
        now: Now,
    ) -> Result<(), Error> {
        if let Backing::File(log) = &mut self.backing {
            let mut file = log.replacement()?;
            let (s, comment) = (database.snapshot(), "converted by ovsdb-server");
            write_snapshot(&mut file, &s, comment, now.wall_ms, diff, log.size())?;
            log.install(file)?;
            // A compaction that is under way would bring the old schema back.
            self.during_compaction = None;
            self.schedule = None;
        }
        self.replace_memory(database);
        Ok(())
    }

    /// Takes a new schema and contents, and stores nothing.
    pub(crate) fn replace_memory(&mut self, database: Database) {
        self.database = database;
        self.logged.clear();
        self.touched = true;
        self.n_commits += 1;
    }
}

/// What takes records: the parts of a `Db` that are not its contents.
struct Store<'a> {
    backing: &'a mut Backing,
    during_compaction: &'a mut Option<During>,
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
        let stored = if file.damaged() {
            // What is in the file cannot be relied on: write all of it anew.
            rewrite(file, db, date_ms, diff).inspect(|()| *self.during_compaction = None)
        } else {
            file.append(&record).and_then(|()| {
                if !c.durable {
                    return Ok(());
                }
                // A transaction that is going to be undone must not be in the file.
                file.sync().inspect_err(|_| file.withdraw())
            })
        };
        *self.error = stored.as_ref().err().map(ToString::to_string);
        if let Some(e) = &*self.error {
            crate::log::report("ovsdb_server", e);
        }
        stored?;
        if let Some(during) = self.during_compaction {
            during.records.extend_from_slice(&record);
            during.len += 1;
        }
        Ok(())
    }
}

/// Writes the contents as a new log and puts it in the place of the old one.
fn rewrite(log: &mut LogFile, db: &Database, date_ms: i64, diff: bool) -> Result<(), Error> {
    let mut file = log.replacement()?;
    write_snapshot(&mut file, &db.snapshot(), "", date_ms, diff, log.size())?;
    log.install(file)
}
