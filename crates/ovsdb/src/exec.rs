//! `transact`: runs the operations of one request and writes their results as JSON text.
//!
//! Results are written straight into the reply's bytes, so that a `select` of a large table builds
//! no tree. A transaction ends in one of three ways: it is committed; it fails, with the error in
//! the place of the operation (or after the last one, if commit fails) and null for what was not
//! run; or it has to wait for the database to change.

mod ops;

pub(crate) use ops::member;

use std::borrow::Cow;
use std::time::Duration;

use ferrovs_json::{ParseError, RawArray};
use serde_json::Value;

use crate::db::Database;
use crate::error::tag;
use crate::parser::{Kind, Parser, What};
use crate::rbac::Who;
use crate::txn::{Committed, Txn};
use crate::{Error, SymbolTable};

/// What the operations may do and know.
pub struct Context<'a> {
    /// Refuse operations that change something.
    pub read_only: bool,
    /// Whose rights count.
    pub who: Who<'a>,
    /// Does the client own this lock?
    pub owns_lock: &'a dyn Fn(&str) -> bool,
    /// Time since the request arrived, for `wait`.
    pub elapsed: Duration,
    /// `wait` may be answered later; otherwise that is an error.
    pub can_wait: bool,
    /// Another server makes the changes: only find out whether there are any to be made.
    pub forward: bool,
    /// Stores the changes before they take effect.
    pub persist: &'a mut dyn FnMut(&Database, &Committed) -> Result<(), Error>,
}

pub enum Outcome {
    /// The reply's `result`, and what changed.
    Done(Vec<u8>, Committed),
    /// Nothing happened: try again when the database changes or, if given, after that much time
    /// since the request arrived.
    Wait(Option<Duration>),
    /// Nothing happened: the changes are to be made elsewhere.
    Forward,
}

/// What one operation says to the loop.
pub(crate) enum Step {
    Next,
    Wait(Option<Duration>),
}

/// What one operation may take as a tree, if the request is text.
pub const MAX_OPERATION: usize = 64 << 20;
/// What the results may take before the last operation. That one may be a `select` of a table that
/// is larger; but a request does not get many copies of the database.
const MAX_RESULTS: usize = 100 << 20;

/// Runs `params`, the whole parameter array of the request: database name, then operations.
pub fn execute(db: &mut Database, params: &Value, cx: &mut Context<'_>) -> Outcome {
    let ops = match params.as_array().map(Vec::as_slice) {
        Some([Value::String(name), ops @ ..]) if *name == db.schema.name => ops,
        other => {
            let what = if other.is_some() {
                "database name expected as first parameter"
            } else {
                "array expected"
            };
            let mut out = Vec::new();
            crate::json::write(&mut out, &Error::syntax(params, what).to_json());
            return Outcome::Done(out, Committed::default());
        }
    };
    let trees = ops.iter().map(|op| Ok(Cow::Borrowed(op)));
    operations(db, ops.len(), trees, cx)
}

/// The same for parameters that are text, of which the first was seen to be the database's name.
/// One operation at a time becomes a tree.
pub fn execute_text(db: &mut Database, params: &RawArray, cx: &mut Context<'_>) -> Outcome {
    let tree = |text| RawArray::element(text, MAX_OPERATION).map(Cow::Owned);
    let n = params.len().saturating_sub(1);
    operations(db, n, params.iter().skip(1).map(tree), cx)
}

fn operations<'a>(
    db: &mut Database,
    n: usize,
    ops: impl Iterator<Item = Result<Cow<'a, Value>, ParseError>>,
    cx: &mut Context<'_>,
) -> Outcome {
    let mut out = Vec::with_capacity(256);
    out.push(b'[');
    let mut run = Run {
        db,
        txn: Txn::new(),
        symtab: SymbolTable::new(),
        out,
        writes: false,
    };
    let mut failed = None;
    let mut done = 0;
    for (i, op) in ops.enumerate() {
        let mark = run.out.len();
        if i > 0 {
            run.out.push(b',');
        }
        match run.parsed(op, (i + 1, n), cx) {
            Ok(Step::Next) => done += 1,
            Ok(Step::Wait(deadline)) => {
                if cx.can_wait {
                    run.txn.rollback(run.db);
                    return Outcome::Wait(deadline);
                }
                run.out.truncate(mark);
                failed = Some(Error::new(tag::NOT_SUPPORTED, "triggers not supported"));
                break;
            }
            Err(e) => {
                run.out.truncate(mark);
                failed = Some(e);
                break;
            }
        }
    }
    let Run {
        db,
        txn,
        mut out,
        writes,
        ..
    } = run;
    let mut committed = Committed::default();
    if failed.is_none() && cx.forward && writes {
        txn.rollback(db);
        return Outcome::Forward;
    }
    if failed.is_none() {
        match txn.commit(db, cx.persist) {
            Ok(c) => committed = c,
            Err(e) => failed = Some(e),
        }
    } else {
        txn.rollback(db);
    }
    if let Some(e) = failed {
        if out.len() > 1 {
            out.push(b',');
        }
        crate::json::write(&mut out, &e.to_json());
        for _ in done + 1..n {
            out.extend_from_slice(b",null");
        }
    }
    out.push(b']');
    Outcome::Done(out, committed)
}

/// True if an operation means to change something, be it that the disk has it.
fn writes(op: &Value) -> bool {
    match op.get("op").and_then(Value::as_str) {
        Some("insert" | "update" | "mutate" | "delete") => true,
        Some("commit") => op.get("durable") == Some(&Value::Bool(true)),
        _ => false,
    }
}

/// State of a transaction in progress.
pub(crate) struct Run<'a> {
    pub db: &'a mut Database,
    pub txn: Txn,
    pub symtab: SymbolTable,
    pub out: Vec<u8>,
    /// Some operation means to change something.
    writes: bool,
}

impl Run<'_> {
    /// Runs an operation, which is so many of how many.
    fn parsed(
        &mut self,
        op: Result<Cow<'_, Value>, ParseError>,
        (i, n): (usize, usize),
        cx: &Context<'_>,
    ) -> Result<Step, Error> {
        let exhausted = |what: &str| Error::new(tag::RESOURCES, what);
        let op = op.map_err(|e| exhausted(&e.message))?;
        if self.out.len() > MAX_RESULTS {
            return Err(exhausted("results take too much memory"));
        }
        self.writes |= writes(&op);
        let mut p = Parser::new(&op, What::Operation(i, n));
        let result = self.operation(&mut p, cx);
        if matches!(result, Ok(Step::Wait(_))) {
            return result;
        }
        p.finish()?;
        if result.is_ok() && self.db.schema.name.starts_with('_') {
            let name = op.get("op").and_then(Value::as_str).unwrap_or_default();
            let reserved = &self.db.schema.name;
            let why = match name {
                "insert" | "update" | "mutate" | "delete" => {
                    "when database server is in read only mode".to_owned()
                }
                "commit" => format!("on table in reserved database {reserved}"),
                _ => return result,
            };
            return Err(Error::new(
                tag::NOT_ALLOWED,
                format!("{name} operation not allowed {why}"),
            ));
        }
        result
    }

    fn operation(&mut self, p: &mut Parser<'_>, cx: &Context<'_>) -> Result<Step, Error> {
        let Some(name) = p.required("op", Kind::ID).and_then(Value::as_str) else {
            return Ok(Step::Next);
        };
        if cx.read_only && matches!(name, "insert" | "update" | "mutate" | "delete") {
            // Nothing else about it matters.
            p.ignore_rest();
            return Err(Error::new(
                tag::NOT_ALLOWED,
                format!("{name} operation not allowed when database server is in read only mode"),
            ));
        }
        match name {
            "insert" => self.insert(p, cx),
            "select" => self.select(p),
            "update" => self.update(p, cx),
            "mutate" => self.mutate(p, cx),
            "delete" => self.delete(p, cx),
            "wait" => self.wait(p, cx),
            "commit" => self.commit(p),
            "abort" => self.abort(p),
            "comment" => self.comment(p),
            "assert" => self.assert(p, cx),
            _ => {
                p.raise(format!("No operation \"{name}\""));
                Ok(Step::Next)
            }
        }
    }
}
