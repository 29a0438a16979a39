//! The OVSDB engine: everything that RFC 7047 defines, without sockets, threads or a clock.
//!
//! ```text
//! json, parser      text and trees (the crate `ferrovs-json`), strict access to members
//! atom, datum       values; types: their constraints; schema: tables and columns
//! row, table, db    the data, as shared immutable rows
//! condition, mutation, exec   the ten operations
//! txn               commit: references, garbage collection, indexes, limits
//! log               the record format on disk, behind `Storage`
//! monitor           update, update2, update3 and the transaction history
//! table_updates, replication, relay   the other end of a monitor: backups and relays
//! ```
//!
//! Invariants: a committed row is never changed in place (readers, monitors and the compaction
//! thread share it by `Arc`); a transaction is applied as a whole or leaves no trace; nothing here
//! reads the clock, callers pass the time in. The one exception to "no files" is `log::file`, the
//! only implementation of `Storage` that programs need, kept beside the format that it stores.
#![forbid(unsafe_code)]

pub mod atom;
pub mod condition;
pub mod datum;
pub mod db;
pub mod error;
pub mod exec;
pub use ferrovs_json as json;
pub mod log;
pub mod monitor;
pub mod mutation;
pub mod parser;
pub mod peer;
pub mod rbac;
pub mod relay;
pub mod replication;
pub mod row;
pub mod schema;
pub mod server;
pub mod symbol;
pub mod table;
pub mod table_updates;
pub mod txn;
pub mod types;
pub mod uuid;

pub use crate::uuid::Uuid;
pub use atom::{Atom, AtomType};
pub use datum::Datum;
pub use db::Database;
pub use error::Error;
pub use schema::{ColumnSchema, DatabaseSchema, TableSchema};
pub use symbol::SymbolTable;
pub use types::{BaseType, ColumnType};
