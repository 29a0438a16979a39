//! Conditions of the tables, and the number that says which of them the contents show.

use super::{Idl, TableState};
use crate::condition::Condition;
use crate::schema::Table;
use ferrovs_stream::json::Value;

/// How many changes of conditions the server has done.
#[derive(Default)]
pub(super) struct Progress {
    acked: u64,
    /// What `acked` becomes with the contents that were asked for.
    folded: Option<u64>,
}

impl Idl {
    /// Wants only the rows of a table for which `condition` holds. Returns what
    /// [`Idl::condition_seqno`] will be, at least, once the replica shows them.
    pub fn set_condition<T: Table>(&mut self, condition: Condition) -> u64 {
        self.set_table_condition(T::INDEX, condition)
    }

    /// The same for a table by position.
    pub fn set_table_condition(&mut self, table: usize, condition: Condition) -> u64 {
        self.tables[table].condition.set(condition);
        self.promised()
    }

    /// The newest condition of a table, whether or not the replica shows it yet.
    pub fn condition<T: Table>(&self) -> &Condition {
        self.tables[T::INDEX].condition.newest()
    }

    /// How many changes of conditions the contents show.
    pub fn condition_seqno(&self) -> u64 {
        self.progress.acked
    }

    /// What the count will be when all that was asked for is done.
    fn promised(&self) -> u64 {
        let any = |f: fn(&TableState) -> bool| u64::from(self.tables.iter().any(f));
        self.progress.folded.unwrap_or(self.progress.acked)
            + any(|t| t.condition.is_in_flight())
            + any(|t| t.condition.is_fresh())
    }

    /// All conditions go with the request for the contents.
    pub(super) fn fold_conditions(&mut self) {
        self.progress.folded = Some(self.promised());
        for table in &mut self.tables {
            table.condition.fold();
        }
    }

    /// The contents came.
    pub(super) fn conditions_folded(&mut self) {
        if let Some(folded) = self.progress.folded.take() {
            self.progress.acked = folded;
        }
    }

    /// The server has done what it was told last.
    pub(super) fn conditions_acked(&mut self) {
        self.progress.acked += 1;
        for table in &mut self.tables {
            table.condition.ack();
        }
    }
}

impl TableState {
    /// A condition as the server takes it.
    pub(super) fn condition_json(&self, condition: &Condition) -> Value {
        condition.to_json(self.def, &self.types, &self.defaults, &self.present)
    }
}
