//! Online schema conversion: the rows of tables that both schemas have, with the columns that both
//! have, checked against the new types.

use std::sync::Arc;

use serde_json::Value;

use super::{Now, Server};
use crate::db::Database;
use crate::error::tag;
use crate::row::Row;
use crate::schema::DatabaseSchema;
use crate::txn::Txn;
use crate::{Datum, Error};

impl Server {
    pub(crate) fn convert(&mut self, name: &str, schema: &Value, now: Now) -> Result<(), Error> {
        let schema = check_schema(name, schema)?;
        let Some(db) = self.dbs.get_mut(name) else {
            return Err(Error::bare(tag::UNKNOWN_DATABASE));
        };
        let converted = convert(&db.database, Arc::new(schema))?;
        db.replace_contents(converted, self.column_diff, now)?;
        self.cancel_clients(name);
        self.disconnect_unaware(&format!("committed {name} database schema conversion"));
        self.stale = true;
        Ok(())
    }
}

/// Parses a schema that is to replace that of the named database.
pub(super) fn check_schema(name: &str, schema: &Value) -> Result<DatabaseSchema, Error> {
    let schema = DatabaseSchema::from_json(schema)?;
    if schema.name != name {
        return Err(Error::new(
            tag::INVALID_PARAMETERS,
            format!(
                "new schema name ({}) does not match database name ({name})",
                schema.name
            ),
        ));
    }
    Ok(schema)
}

/// The contents under another schema.
pub fn convert(old: &Database, schema: Arc<DatabaseSchema>) -> Result<Database, Error> {
    let mut new = Database::new(schema);
    let mut txn = Txn::new();
    for from in old.tables() {
        let Some(to) = new.table_index(&from.schema.name) else {
            continue;
        };
        let target = Arc::clone(&new.tables()[to].schema);
        for row in from.iter() {
            let mut r = Row::new(&target, row.uuid);
            for c in from.schema.own_columns() {
                let Some(t) = target.column(&c.name) else {
                    continue;
                };
                let value = row.field(c.index);
                // What is there may be the default of a column that came with another schema, which nobody
                // checked; now it is checked.
                let fit = if c.ty == t.ty {
                    value.check(&t.ty).map(|()| value.clone())
                } else {
                    Datum::from_json(&t.ty, &value.to_json(&c.ty), None)
                };
                let value = match fit {
                    Ok(v) => v,
                    Err(e) => {
                        txn.rollback(&mut new);
                        return Err(e);
                    }
                };
                r.set(t.index, value);
            }
            txn.insert(&mut new, to, r);
        }
    }
    txn.commit(&mut new, &mut |_, _| Ok(()))?;
    Ok(new)
}
