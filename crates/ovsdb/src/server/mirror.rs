//! Databases whose contents come from another server: backups, which keep them in a file and let
//! nobody else change them, and relays, which hold them in memory and pass on what would change
//! them.
//!
//! The protocol is in `replication` and `relay`; here is what it does to the databases. A request
//! that is passed on waits among the triggers of its database, so it ends with its session like any
//! other; `take_forwards` hands it out once, `forward_reply` answers it. One that was handed out
//! when the connection is lost may or may not have taken effect: its client is told that it was
//! canceled.

use std::sync::Arc;

use serde_json::Value;

use super::db::{Forward, Trigger};
use super::{Backing, Db, Now, Server};
use crate::db::Database;
use crate::error::tag;
use crate::schema::DatabaseSchema;
use crate::table_updates::{self, Form};
use crate::{Error, json};

/// State of a relayed database.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Relayed {
    /// The schema has been seen.
    available: bool,
    /// The source is there, or was a moment ago.
    connected: bool,
}

/// A request for another server: its number here, its method and the text of its parameters.
pub type Forwarded = (u64, &'static str, Vec<u8>);

impl Db {
    /// A database that is to be fetched from another server.
    pub fn relay(name: &str) -> Self {
        let mut db = Self::new(
            Database::new(Arc::new(DatabaseSchema {
                name: name.to_owned(),
                version: String::new(),
                cksum: String::new(),
                tables: std::collections::BTreeMap::new(),
            })),
            Backing::Memory,
        );
        db.relay = Some(Relayed::default());
        db
    }

    pub fn is_relay(&self) -> bool {
        self.relay.is_some()
    }

    /// True if the schema is known.
    pub fn is_available(&self) -> bool {
        self.relay.is_none_or(|r| r.available)
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.relay.is_none_or(|r| r.connected)
    }
}

impl Server {
    /// Applies table updates from another server. `anew`: they are the whole contents. Tables that
    /// `skip` names stay as they are.
    pub fn apply_updates(
        &mut self,
        name: &str,
        updates: &Value,
        form: Form,
        anew: bool,
        skip: &dyn Fn(&str) -> bool,
        now: Now,
    ) -> Result<(), Error> {
        let diff = self.column_diff;
        let Some(db) = self.dbs.get_mut(name) else {
            return Err(Error::bare(tag::UNKNOWN_DATABASE));
        };
        db.change(now, diff, |db, txn| {
            if anew {
                table_updates::clear(db, txn, skip);
            }
            table_updates::apply(db, txn, updates, form, skip)
        })?;
        if self.dbs.get(name).is_some_and(|d| d.touched) {
            self.run_triggers(name, now);
        }
        Ok(())
    }

    /// Gives a relayed database the schema of its source. The contents are gone if it is another
    /// one than before.
    pub fn set_relay_schema(&mut self, name: &str, schema: DatabaseSchema) {
        let Some(db) = self.dbs.get_mut(name) else {
            return;
        };
        let Some(relay) = &mut db.relay else { return };
        let was_available = std::mem::replace(&mut relay.available, true);
        if was_available && db.database.schema.to_json() == schema.to_json() {
            return;
        }
        db.replace_memory(Database::new(Arc::new(schema)));
        self.cancel_clients(name);
        self.disconnect_unaware(&if was_available {
            format!("database {name} schema changed")
        } else {
            format!("database {name} connected to storage")
        });
        self.stale = true;
    }

    /// Says whether the source of a relayed database is there.
    pub fn set_relay_connected(&mut self, name: &str, connected: bool) {
        if let Some(db) = self.dbs.get_mut(name)
            && let Some(relay) = &mut db.relay
            && relay.connected != connected
        {
            relay.connected = connected;
            self.stale = true;
        }
    }

    /// Hands out the requests that are to be passed on, in their order.
    pub fn take_forwards(&mut self, name: &str, send: &mut dyn FnMut(Forwarded)) {
        let Self {
            dbs, next_forward, ..
        } = self;
        let Some(db) = dbs.get_mut(name) else { return };
        for t in &mut db.triggers {
            if t.forward == Forward::Waiting {
                *next_forward += 1;
                t.forward = Forward::Sent(*next_forward);
                send((*next_forward, t.method, t.params.text()));
            }
        }
    }

    /// The answer to a request that was passed on.
    pub fn forward_reply(&mut self, name: &str, number: u64, reply: Result<Value, Value>) {
        let Some(db) = self.dbs.get_mut(name) else {
            return;
        };
        let sent = |t: &Trigger| t.forward == Forward::Sent(number);
        // Without it the client is gone, or has canceled it.
        let Some(i) = db.triggers.iter().position(sent) else {
            return;
        };
        let t = db.triggers.remove(i);
        // A client sees the effect of its transaction before the reply to it.
        self.flush_session(name, t.session);
        match reply {
            Ok(result) => self.reply(t.session, &t.id, json::to_string(&result).into_bytes()),
            Err(e) => self.reply_error(t.session, &t.id, &e),
        }
    }

    /// The connection is lost: nobody will ever know what became of the requests that were passed
    /// on.
    pub fn cancel_forwards(&mut self, name: &str) {
        let Some(db) = self.dbs.get_mut(name) else {
            return;
        };
        let lost: Vec<Trigger> = db
            .triggers
            .extract_if(.., |t| matches!(t.forward, Forward::Sent(_)))
            .collect();
        for t in lost {
            self.reply_error(t.session, &t.id, &tag::CANCELED.into());
        }
    }
}
