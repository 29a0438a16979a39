//! Role-based access control: what the role of a remote lets its clients change.
//!
//! The rules are rows of the database itself: `RBAC_Role` maps a role's tables to rows of
//! `RBAC_Permission`, which say whether rows may be inserted and deleted, which columns may be
//! updated, and which columns of a row must hold the client's identity (the name in its
//! certificate) for the row to be the client's. Without a role everything is allowed; with a role,
//! a client without identity may change nothing.

use crate::db::Database;
use crate::error::tag;
use crate::mutation::Mutation;
use crate::row::Row;
use crate::{Atom, Datum, Error};

/// On whose behalf operations run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Who<'a> {
    /// Empty means none.
    pub role: &'a str,
    pub client: Option<&'a str>,
}

/// What is to be done, for the message.
#[derive(Clone, Copy)]
enum Action {
    Insert,
    Delete,
    Update,
    Mutate,
}

struct Permission<'a> {
    authorization: &'a Datum,
    insert_delete: bool,
    update: &'a Datum,
}

impl<'a> Who<'a> {
    fn restricted(&self) -> bool {
        !self.role.is_empty()
    }

    fn denied(&self, table: &str, action: Action) -> Error {
        let what = match action {
            Action::Insert => "row insertion into",
            Action::Delete => "row deletion from",
            Action::Update => "modification of",
            Action::Mutate => "mutate operation on",
        };
        Error::new(
            tag::PERMISSION,
            format!(
                "RBAC rules for client \"{}\" role \"{}\" prohibit {what} table \"{table}\".",
                self.client.unwrap_or("(null)"),
                self.role
            ),
        )
    }

    fn permission<'b>(&self, db: &'b Database, table: &str) -> Option<Permission<'b>> {
        self.client?;
        let roles = db.table("RBAC_Role")?;
        let name = roles.schema.column("name")?.index;
        let permissions = roles.schema.column("permissions")?.index;
        let role = roles
            .iter()
            .find(|r| r.field(name).as_str() == Some(self.role))?;
        let id = role
            .field(permissions)
            .get(&Atom::string(table))?
            .as_uuid()?;
        let all = db.table("RBAC_Permission")?;
        let row = all.get(&id)?;
        let get = |column: &str| all.schema.column(column).map(|c| row.field(c.index));
        Some(Permission {
            authorization: get("authorization")?,
            insert_delete: get("insert_delete")?.as_bool()?,
            update: get("update")?,
        })
    }

    /// The row is one of the client's: some authorization names a column (or `column:key`) that
    /// holds its identity, or the empty string admits everybody.
    fn owns(&self, db: &Database, table: usize, row: &Row, p: &Permission<'_>) -> bool {
        let Some(client) = self.client else {
            return false;
        };
        let schema = &db.tables()[table].schema;
        p.authorization
            .atoms()
            .iter()
            .filter_map(Atom::as_str)
            .any(|auth| {
                if auth.is_empty() {
                    return true;
                }
                let (column, key) = match auth.split_once(':') {
                    Some((c, k)) => (c, Some(k)),
                    None => (auth, None),
                };
                let Some(column) = schema.column(column) else {
                    return false;
                };
                let value = row.get(column.index);
                match key {
                    Some(k) => value.get_str(k) == Some(client),
                    None => value.atoms().iter().any(|a| a.as_str() == Some(client)),
                }
            })
    }

    pub(crate) fn may_insert(&self, db: &Database, table: usize) -> Result<(), Error> {
        if !self.restricted() {
            return Ok(());
        }
        let name = &db.tables()[table].schema.name;
        match self.permission(db, name) {
            Some(p) if p.insert_delete => Ok(()),
            _ => Err(self.denied(name, Action::Insert)),
        }
    }

    pub(crate) fn may_delete<'r>(
        &self,
        db: &Database,
        table: usize,
        mut rows: impl Iterator<Item = &'r Row>,
    ) -> Result<(), Error> {
        if !self.restricted() {
            return Ok(());
        }
        let name = &db.tables()[table].schema.name;
        match self.permission(db, name) {
            Some(p) if p.insert_delete && rows.all(|r| self.owns(db, table, r, &p)) => Ok(()),
            _ => Err(self.denied(name, Action::Delete)),
        }
    }

    pub(crate) fn may_update<'r>(
        &self,
        db: &Database,
        table: usize,
        mut rows: impl Iterator<Item = &'r Row>,
        columns: impl Iterator<Item = usize>,
    ) -> Result<(), Error> {
        if !self.restricted() {
            return Ok(());
        }
        let schema = &db.tables()[table].schema;
        let mut columns = columns.map(|c| Atom::string(&schema.columns[c].name));
        match self.permission(db, &schema.name) {
            Some(p)
                if columns.all(|c| p.update.contains(&c))
                    && rows.all(|r| self.owns(db, table, r, &p)) =>
            {
                Ok(())
            }
            _ => Err(self.denied(&schema.name, Action::Update)),
        }
    }

    pub(crate) fn may_mutate<'r>(
        &self,
        db: &Database,
        table: usize,
        mut rows: impl Iterator<Item = &'r Row>,
        mutations: &[Mutation],
    ) -> Result<(), Error> {
        if !self.restricted() {
            return Ok(());
        }
        let schema = &db.tables()[table].schema;
        // A whole column, or of a map each key that the mutation touches.
        let allowed = |p: &Permission<'_>, m: &Mutation| {
            let column = &schema.columns[m.column];
            if p.update.contains(&Atom::string(&column.name)) {
                return true;
            }
            column.ty.is_map()
                && m.arg.keys().all(|k| {
                    let key = format!("{}:{}", column.name, k.to_bare());
                    p.update.contains(&Atom::string(&key))
                })
        };
        match self.permission(db, &schema.name) {
            Some(p)
                if mutations.iter().all(|m| allowed(&p, m))
                    && rows.all(|r| self.owns(db, table, r, &p)) =>
            {
                Ok(())
            }
            _ => Err(self.denied(&schema.name, Action::Mutate)),
        }
    }
}
