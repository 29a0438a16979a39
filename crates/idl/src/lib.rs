//! The OVSDB client: a local replica of part of a database, with typed rows and transactions.
//!
//! Declare a schema once ([`schema`], `database!`), open an [`Idl`] on a remote, say which columns
//! matter, and call [`Idl::run`] in the main loop. [`Idl::seqno`] changes when something relevant
//! changed; [`Idl::rows`] gives typed rows (`row.name()`, `row.ofport()`), [`Idl::changes`] what
//! is new since it was last cleared. Changes to the database go through a [`Txn`]: edits are
//! collected, sent by `commit` as one transaction, and show in the replica once the server has
//! applied them; a [`View`] shows the replica with a transaction's edits on top.
//!
//! ```text
//! server --update3--> update.rs --> TableState.rows --> Row<T> --> daemon or tool
//!        <--transact-- txn/commit.rs <-- Txn edits <---------------'
//! ```
//!
//! Invariant: rows in the replica are exactly what the server last said about the monitored
//! columns; a transaction never changes them directly.

#![forbid(unsafe_code)]

mod client;
pub mod condition;
pub mod hardware_vtep;
pub mod kind;
pub mod local_config;
pub mod open_vswitch;
mod row;
pub mod schema;
mod txn;

pub use client::{Change, Idl, Options};
pub use condition::{Condition, Function};
pub use ferrovs_ovsdb::{Atom, AtomType, ColumnType, Datum, Uuid};
pub use row::{Columns, Row, RowData};
pub use schema::{Column, Database, Table};
pub use txn::{Status, Txn, View};
