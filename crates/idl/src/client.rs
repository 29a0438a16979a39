//! The replica: its tables, its session with the server, and what its owner asks of it.
//!
//! The protocol (which request follows which reply) is in `sync`, the judgement of servers in
//! `server`, conditions in `conditions`, the application of updates in `update`, what they changed
//! in `changes` and `references`, locks in `lock`; replies to transactions wait in `outstanding` for
//! their [`crate::Txn`].

mod changes;
mod conditions;
mod lock;
mod references;
mod remotes;
mod server;
mod sync;
mod update;

pub use changes::Change;

use crate::condition;
use crate::row::{Row, RowData};
use crate::schema::{Column, Database, Table, TableDef};
use ferrovs_ovsdb::{ColumnType, Datum, Uuid};
use ferrovs_runtime::Poller;
use ferrovs_stream::json::{Value, to_string};
use ferrovs_stream::jsonrpc::{Incoming, Msg, Session};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How an [`Idl`] treats its server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Keep trying when the connection fails.
    pub retry: bool,
    /// Of a cluster, use only the leader.
    pub leader_only: bool,
    /// Visit several remotes in random order.
    pub shuffle: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            retry: true,
            leader_only: true,
            shuffle: true,
        }
    }
}

/// One table of the replica.
struct TableState {
    def: &'static TableDef,
    types: Vec<ColumnType>,
    defaults: Arc<[Datum]>,
    /// The table is wanted (even without a column).
    wanted: bool,
    monitored: Vec<bool>,
    /// Columns whose changes bump the sequence number.
    alert: Vec<bool>,
    /// What the server's schema has.
    present: Vec<bool>,
    on_server: bool,
    rows: BTreeMap<Uuid, RowData>,
    changes: changes::Changes,
    condition: condition::Request,
}

/// How the reply to a transaction came out.
#[derive(Debug)]
pub(crate) enum Outcome {
    Results(Vec<Value>),
    Failed(String),
    /// The connection went away first: nobody knows.
    Lost,
}

/// A replica of part of a database.
pub struct Idl {
    db: &'static Database,
    tables: Vec<TableState>,
    options: Options,
    /// The remotes as they were given.
    remote: String,
    session: Session,
    probe_interval: Option<Option<Duration>>,
    sync: sync::Sync,
    server: server::Server,
    leader_only: bool,
    change_aware: bool,
    /// How much of the cluster's log the servers had that we used so far.
    min_index: u64,
    progress: conditions::Progress,
    seqno: u64,
    lock: lock::Lock,
    tracking: bool,
    references: Option<references::References>,
    /// Transactions on their way: the text of their request id.
    outstanding: HashMap<String, Option<Outcome>>,
}

impl Idl {
    /// A replica of `db` at `remote` (several, separated by commas, take turns). Nothing is
    /// monitored until columns are added.
    pub fn new(remote: &str, db: &'static Database, options: Options, now: Instant) -> Idl {
        let remotes = remotes::list(remote, options.shuffle);
        Idl {
            db,
            tables: db.tables.iter().map(TableState::new).collect(),
            session: Session::open_multiple(remotes, options.retry, now),
            remote: remote.to_string(),
            probe_interval: None,
            sync: sync::Sync::new(),
            server: server::Server::default(),
            leader_only: options.leader_only,
            change_aware: true,
            min_index: 0,
            options,
            progress: conditions::Progress::default(),
            seqno: 0,
            lock: lock::Lock::default(),
            tracking: false,
            references: None,
            outstanding: HashMap::new(),
        }
    }

    pub fn database(&self) -> &'static Database {
        self.db
    }

    /// Monitors every column of every table.
    pub fn monitor_all(&mut self) {
        for table in 0..self.tables.len() {
            self.monitor_table(table);
        }
    }

    /// Monitors every column of a table, by position.
    pub fn monitor_table(&mut self, table: usize) {
        for column in 0..self.tables[table].def.columns.len() {
            self.monitor_column(table, column);
        }
    }

    /// Monitors the rows of a table, whatever columns of it are monitored.
    pub fn monitor_rows(&mut self, table: usize) {
        self.tables[table].wanted = true;
    }

    /// Whether the rows of a table are monitored, by position.
    pub fn is_table_monitored(&self, table: usize) -> bool {
        self.tables[table].wanted
    }

    /// Monitors a column, by position.
    pub fn monitor_column(&mut self, table: usize, column: usize) {
        let table = &mut self.tables[table];
        table.wanted = true;
        table.monitored[column] = true;
        table.alert[column] = true;
    }

    /// Monitors a column.
    pub fn monitor<T: Table, K>(&mut self, column: Column<T, K>) {
        self.monitor_column(T::INDEX, column.index());
    }

    /// Keeps a monitored column up to date without telling: for what the program itself writes.
    pub fn omit_alert<T: Table, K>(&mut self, column: Column<T, K>) {
        self.tables[T::INDEX].alert[column.index()] = false;
    }

    /// Does not monitor a column.
    pub fn omit<T: Table, K>(&mut self, column: Column<T, K>) {
        let table = &mut self.tables[T::INDEX];
        table.monitored[column.index()] = false;
        table.alert[column.index()] = false;
    }

    /// Remembers from now on which rows and columns change, until [`Idl::clear_changes`].
    pub fn track_changes(&mut self) {
        self.tracking = true;
    }

    /// What changed in a table since the last [`Idl::clear_changes`].
    pub fn changes<T: Table>(&self) -> impl Iterator<Item = (Uuid, &Change)> {
        self.table_changes(T::INDEX)
    }

    /// The same for a table by position.
    pub fn table_changes(&self, table: usize) -> impl Iterator<Item = (Uuid, &Change)> {
        let rows = self.tables[table].changes.rows.iter();
        rows.map(|(&uuid, change)| (uuid, change))
    }

    /// The columns that a change touches and that are told, by position: not those of [`Idl::omit_alert`].
    pub fn told(&self, table: usize, change: &Change) -> impl Iterator<Item = usize> {
        let alert = self.tables[table].alert.iter().enumerate();
        alert
            .filter(move |(column, told)| **told && change.touches_column(*column))
            .map(|(column, _)| column)
    }

    /// Whether anything changed since the last [`Idl::clear_changes`].
    pub fn has_changes(&self) -> bool {
        self.tables.iter().any(|t| !t.changes.rows.is_empty())
    }

    pub fn clear_changes(&mut self) {
        for table in &mut self.tables {
            table.changes.rows.clear();
        }
    }

    /// Talks to the server: takes what came, sends what is due.
    pub fn run(&mut self, now: Instant) {
        self.session.run(now);
        // The bound lets a busy server not starve the rest of the program.
        for _ in 0..50 {
            self.follow_session(now);
            match self.session.recv_result(now) {
                Some(Incoming::Msg(msg)) => self.process(msg, now),
                Some(Incoming::LargeReply { result, id }) => self.process_large(result, id, now),
                Some(Incoming::Large { .. }) => {}
                None => break,
            }
        }
        self.follow_session(now);
        self.send_conditions();
    }

    /// Closes the connection at the end of the process, when nobody needs the room that the rows take.
    pub fn end(self) {
        drop(self.session);
        std::mem::forget(self.tables);
    }

    /// Wakes when [`Idl::run`] has something to do.
    pub fn wait(&self, poller: &mut Poller) {
        self.session.wait(poller);
        self.session.recv_wait(poller);
        if self.conditions_due() {
            poller.wake_now();
        }
    }

    /// Changes whenever monitored data changed, and when the first contents are complete.
    pub fn seqno(&self) -> u64 {
        self.seqno
    }

    /// Whether the contents were complete at some time.
    pub fn has_ever_connected(&self) -> bool {
        self.seqno != 0
    }

    /// Whether the contents are being kept up to date right now.
    pub fn is_connected(&self) -> bool {
        self.session.is_connected() && self.sync.is_monitoring()
    }

    /// False once the connection is gone for good (only without `retry`).
    pub fn is_alive(&self) -> bool {
        self.session.is_alive()
    }

    /// Why the connection, or the last attempt at one, ended.
    pub fn last_error(&self) -> Option<&str> {
        self.session.last_error()
    }

    /// The rows of a table, in order of UUID.
    pub fn rows<T: Table>(&self) -> impl Iterator<Item = Row<'_, T>> {
        self.table_rows(T::INDEX).map(Row::new)
    }

    /// The first row of a table: for tables that have just one.
    pub fn first<T: Table>(&self) -> Option<Row<'_, T>> {
        self.rows().next()
    }

    pub fn row<T: Table>(&self, uuid: Uuid) -> Option<Row<'_, T>> {
        self.table_row(T::INDEX, uuid).map(Row::new)
    }

    /// The rows of a table, by position.
    pub fn table_rows(&self, table: usize) -> impl Iterator<Item = &RowData> {
        self.tables[table].rows.values()
    }

    pub fn table_row(&self, table: usize, uuid: Uuid) -> Option<&RowData> {
        self.tables[table].rows.get(&uuid)
    }

    /// The type of a column, by position.
    pub fn column_type(&self, table: usize, column: usize) -> &ColumnType {
        &self.tables[table].types[column]
    }

    /// What a column of a new row holds.
    pub fn default_datum(&self, table: usize, column: usize) -> &Datum {
        &self.tables[table].defaults[column]
    }

    /// Whether the server's schema has the column; true while it is not known.
    pub fn server_has_column(&self, table: usize, column: usize) -> bool {
        self.tables[table].present[column]
    }

    pub(crate) fn is_monitored(&self, table: usize, column: usize) -> bool {
        let table = &self.tables[table];
        table.monitored[column] && table.present[column]
    }

    /// Sends a transaction; its outcome is fetched with [`Idl::outcome`].
    pub(crate) fn transact(&mut self, operations: Vec<Value>) -> Option<String> {
        let mut params = vec![Value::from(self.db.name)];
        params.extend(operations);
        let (msg, id) = Msg::request("transact", params);
        if !self.sync.is_monitoring() || !self.session.send(&msg) {
            return None;
        }
        let key = to_string(&id);
        self.outstanding.insert(key.clone(), None);
        Some(key)
    }

    /// The outcome of a transaction, if it is there.
    pub(crate) fn outcome(&mut self, id: &str) -> Option<Outcome> {
        match self.outstanding.get(id) {
            Some(None) => None,
            Some(Some(_)) => self.outstanding.remove(id).flatten(),
            None => Some(Outcome::Lost),
        }
    }

    /// Nobody will ask for the outcome any more.
    pub(crate) fn forget(&mut self, id: &str) {
        self.outstanding.remove(id);
    }
}

impl TableState {
    fn new(def: &'static TableDef) -> TableState {
        let types: Vec<ColumnType> = def.columns.iter().map(|c| c.def.column_type()).collect();
        let n = types.len();
        TableState {
            def,
            defaults: types.iter().map(ColumnType::default_datum).collect(),
            types,
            wanted: false,
            monitored: vec![false; n],
            alert: vec![false; n],
            present: vec![true; n],
            on_server: true,
            rows: BTreeMap::new(),
            changes: changes::Changes::default(),
            condition: condition::Request::default(),
        }
    }
}

#[cfg(test)]
mod tests;
