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
use crate::schema::TableSchema;
use crate::table::Table;
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

    /// The table of roles, if they count: without a role, or in a database that knows no roles,
    /// everything is allowed.
    fn roles<'b>(&self, db: &'b Database) -> Option<&'b Table> {
        (!self.role.is_empty()).then(|| db.table("RBAC_Role"))?
    }

    fn permission<'b>(
        &self,
        roles: &'b Table,
        db: &'b Database,
        table: &str,
    ) -> Option<Permission<'b>> {
        self.client?;
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

    /// The row is one of the client's: some authorization names a column of one string, or
    /// `column:key` of a map, that holds its identity; or the empty string admits everybody.
    fn owns(&self, schema: &TableSchema, row: &Row, p: &Permission<'_>) -> bool {
        let Some(client) = self.client else {
            return false;
        };
        let holds_identity = |auth: &str| {
            let mut parts = auth.split(':').filter(|part| !part.is_empty());
            let Some(column) = parts.next().and_then(|name| schema.column(name)) else {
                return false;
            };
            let value = row.get(column.index);
            match parts.next() {
                Some(key) => column.ty.is_map() && value.get_str(key) == Some(client),
                // A column of many would make a row of one client the row of others too.
                None if auth.contains(':') || column.ty.is_map() || column.ty.max != 1 => false,
                None => value.atoms().iter().any(|a| a.as_str() == Some(client)),
            }
        };
        let mut authorizations = p.authorization.atoms().iter().filter_map(Atom::as_str);
        authorizations.any(|auth| auth.is_empty() || holds_identity(auth))
    }

    /// Asks the role for the table, then for each row what `may` asks. What touches no row is
    /// allowed to whoever has a permission for the table at all.
    fn check<'r>(
        &self,
        db: &Database,
        table: usize,
        action: Action,
        mut rows: impl Iterator<Item = &'r Row>,
        may: impl Fn(&TableSchema, &Permission<'_>) -> bool,
    ) -> Result<(), Error> {
        let Some(roles) = self.roles(db) else {
            return Ok(());
        };
        let schema = &db.tables()[table].schema;
        let allowed = self.permission(roles, db, &schema.name).is_some_and(|p| {
            let may = may(schema, &p);
            rows.all(|row| may && self.owns(schema, row, &p))
        });
        if allowed {
            Ok(())
        } else {
            Err(self.denied(&schema.name, action))
        }
    }

    pub(crate) fn may_insert(&self, db: &Database, table: usize, row: &Row) -> Result<(), Error> {
        self.check(db, table, Action::Insert, std::iter::once(row), |_, p| {
            p.insert_delete
        })
    }

    pub(crate) fn may_delete<'r>(
        &self,
        db: &Database,
        table: usize,
        rows: impl Iterator<Item = &'r Row>,
    ) -> Result<(), Error> {
        self.check(db, table, Action::Delete, rows, |_, p| p.insert_delete)
    }

    pub(crate) fn may_update<'r>(
        &self,
        db: &Database,
        table: usize,
        rows: impl Iterator<Item = &'r Row>,
        columns: &[usize],
    ) -> Result<(), Error> {
        self.check(db, table, Action::Update, rows, |schema, p| {
            p.may_change(schema, columns.iter().copied())
        })
    }

    /// No mutations need no permission.
    pub(crate) fn may_mutate<'r>(
        &self,
        db: &Database,
        table: usize,
        rows: impl Iterator<Item = &'r Row>,
        mutations: &[Mutation],
    ) -> Result<(), Error> {
        if mutations.is_empty() {
            return Ok(());
        }
        self.check(db, table, Action::Mutate, rows, |schema, p| {
            p.may_change(schema, mutations.iter().map(|m| m.column))
        })
    }
}

impl Permission<'_> {
    /// All of the columns may be updated. Columns count as a whole: a `column:key` in `update`
    /// admits nothing, as in Open vSwitch.
    fn may_change(&self, schema: &TableSchema, mut columns: impl Iterator<Item = usize>) -> bool {
        columns.all(|c| self.update.contains(&Atom::string(&schema.columns[c].name)))
    }
}
