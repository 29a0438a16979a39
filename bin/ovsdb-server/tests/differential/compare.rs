//! What of two answers has to be equal. Everything but
//!
//! - versions of rows, and UUIDs that a server makes up (of symbols that no operation creates);
//! - the order of members of objects, of rows in a result, of notifications of different monitors;
//! - which of several errors is the one that is told, where Open vSwitch goes through a hash table: columns of
//!   one row, rows that one mutation changes, rows that break something at commit. There the other error must be
//!   one that our server gives as well when it is asked about each column or row alone, and at commit of the
//!   same kind.

use ferrovs_ovsdb::json;
use serde_json::{Value, json as tree};

use crate::peer::{Answer, Peer};

/// A value in its one form.
pub fn comparable(v: &Value) -> Value {
    match v {
        Value::Object(m) => Value::Object(
            m.iter()
                .filter(|(k, _)| *k != "_version")
                .map(|(k, x)| {
                    let mut x = comparable(x);
                    if k == "rows"
                        && let Value::Array(rows) = &mut x
                    {
                        rows.sort_by_key(json::to_string);
                    }
                    (k.clone(), x)
                })
                .collect(),
        ),
        Value::Array(a) => {
            if let [Value::String(kind), Value::String(id)] = a.as_slice()
                && kind == "uuid"
                && !is_drawn(id)
            {
                return tree!(["uuid", "?"]);
            }
            let mut a: Vec<Value> = a.iter().map(comparable).collect();
            let tagged = a.first().is_some_and(|t| t == "set" || t == "map");
            if tagged && let Some(Value::Array(members)) = a.get_mut(1) {
                members.sort_by_key(json::to_string);
            }
            Value::Array(a)
        }
        other => other.clone(),
    }
}

fn is_drawn(uuid: &str) -> bool {
    uuid.starts_with("00000000-0000")
}

/// The text with UUIDs that a server made up taken out.
fn without_random(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_hexdigit()) {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest
            .find(|c: char| !c.is_ascii_hexdigit() && c != '-')
            .unwrap_or(rest.len());
        let word = &rest[..end];
        let is_uuid = word.len() == 36 && word.matches('-').count() == 4;
        out.push_str(if is_uuid && !is_drawn(word) {
            "?"
        } else {
            word
        });
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// An error, to compare.
fn error(e: &Value) -> Value {
    let mut e = e.clone();
    if let Some(d) = e["details"].as_str().map(without_random) {
        // Which of several superfluous members is named.
        let d = match (d.find("Member '"), d.find("' and ")) {
            (Some(start), Some(end)) if d.ends_with(" present but not allowed here.") => {
                format!("{}{}", &d[..start], &d[end..])
            }
            _ => d,
        };
        e["details"] = as_in_3_7(d).into();
    }
    e
}

/// Open vSwitch 4.0 names the table of a UUID that is there already, 3.5 does not.
fn as_in_3_7(details: String) -> String {
    match details.split_once(" within the \"") {
        Some((start, end)) if end.contains("\" table or deleted from this table within") => {
            format!("{start} within the table or deleted within the same transaction.")
        }
        _ => details,
    }
}

/// Notifications by monitor.
pub fn notifications(all: &[Value]) -> Vec<String> {
    let mut out: Vec<String> = all
        .iter()
        .map(|n| json::to_string(&comparable(n)))
        .collect();
    out.sort();
    out
}

/// How often what was normalised.
#[derive(Default, Debug)]
pub struct Count {
    pub compared: usize,
    pub committed: usize,
    pub other_column: usize,
    pub other_row: usize,
    pub other_at_commit: usize,
    /// Databases that were given up because Open vSwitch's held weak references to nothing.
    pub dangling: usize,
}

impl Count {
    pub fn add(&mut self, other: &Count) {
        self.compared += other.compared;
        self.committed += other.committed;
        self.other_column += other.other_column;
        self.other_row += other.other_row;
        self.other_at_commit += other.other_at_commit;
        self.dangling += other.dangling;
    }

    /// Why the answers to a transaction differ, if they do. `ours` can be asked again.
    pub fn difference(
        &mut self,
        params: &Value,
        theirs: &Answer,
        our: &Answer,
        ours: &mut Peer,
    ) -> Option<String> {
        self.compared += 1;
        let (a, b) = (&theirs.reply["result"], &our.reply["result"]);
        let differ = |what: &str, a: &Value, b: &Value| {
            Some(format!(
                "{what}\n theirs {}\n ours   {}",
                json::to_string(a),
                json::to_string(b)
            ))
        };
        let (Some(x), Some(y)) = (a.as_array(), b.as_array()) else {
            let (a, b) = (comparable(&theirs.reply), comparable(&our.reply));
            return (a != b).then(|| differ("reply", &a, &b)).flatten();
        };
        if x.len() != y.len() {
            return differ("length", a, b);
        }
        let ops = &params.as_array().unwrap()[1..];
        for (i, (x, y)) in x.iter().zip(y).enumerate() {
            if x.get("error").is_none() || y.get("error").is_none() {
                let (x, y) = (comparable(x), comparable(y));
                if x != y {
                    return differ(&format!("result {i}"), &x, &y);
                }
                continue;
            }
            let (x, y) = (error(x), error(y));
            if x == y {
                continue;
            }
            let same = match ops.get(i) {
                None => {
                    self.other_at_commit += 1;
                    x["error"] == y["error"] && x["error"] != "internal error"
                }
                Some(op) => {
                    self.other_default(op, &x, &y)
                        || self.other_immutable(op, &x, &y)
                        || self.other_error(&ops[..i], op, &x, ours)
                }
            };
            if !same {
                return differ(&format!("error {i}"), &x, &y);
            }
        }
        let (a, b) = (
            notifications(&theirs.notifications),
            notifications(&our.notifications),
        );
        if a != b {
            let only = |x: &[String], y: &[String]| -> Vec<String> {
                x.iter().filter(|t| !y.contains(t)).cloned().collect()
            };
            let (a, b) = (only(&a, &b), only(&b, &a));
            return Some(format!("updates\n theirs {a:#?}\n ours   {b:#?}"));
        }
        if !x.iter().any(|r| r.get("error").is_some()) {
            self.committed += 1;
        }
        None
    }

    /// True if both name a column of the row that is not to be updated.
    fn other_immutable(&mut self, op: &Value, x: &Value, y: &Value) -> bool {
        let named = |e: &Value| {
            let details = e["details"].as_str()?;
            let rest = details.strip_prefix("Cannot update immutable column ")?;
            let (column, _) = rest.split_once(' ')?;
            op["row"].get(column).map(|_| ())
        };
        let same = named(x).is_some() && named(y).is_some();
        self.other_column += usize::from(same);
        same
    }

    /// True if both say of an inserted row that the default of some column breaks its constraints.
    fn other_default(&mut self, op: &Value, x: &Value, y: &Value) -> bool {
        let about_default = |e: &Value| {
            let details = e["details"].as_str().unwrap_or_default();
            let defaults = ["\"\" ", "0 ", "00000000-0000-0000-0000-000000000000 "];
            e["error"] == "constraint violation" && defaults.iter().any(|d| details.starts_with(d))
        };
        let same = op["op"] == "insert" && about_default(x) && about_default(y);
        self.other_column += usize::from(same);
        same
    }

    /// True if our server gives that error, too, when it is asked about one column or one row alone.
    fn other_error(
        &mut self,
        before: &[Value],
        op: &Value,
        wanted: &Value,
        ours: &mut Peer,
    ) -> bool {
        let columns = by_column(op);
        let rows = by_row(op);
        let n = columns.len();
        for (i, one) in columns.into_iter().chain(rows).enumerate() {
            let mut params = vec![tree!(ferrovs_testkit::database::NAME)];
            params.extend(before.iter().cloned());
            params.extend([one, tree!({"op": "abort"})]);
            let Some(answer) = ours.call("transact", &Value::Array(params)) else {
                return false;
            };
            let mut got = error(&answer.reply["result"][before.len()]);
            let mut wanted = wanted.clone();
            if wanted["error"] == "unknown column" {
                // Quotes the whole row.
                for e in [&mut got, &mut wanted] {
                    e["syntax"] = Value::Null;
                }
            }
            if got == wanted {
                *(if i < n {
                    &mut self.other_column
                } else {
                    &mut self.other_row
                }) += 1;
                return true;
            }
        }
        false
    }
}

/// The operation with one column of its row, or of one of its rows.
fn by_column(op: &Value) -> Vec<Value> {
    let mut out = Vec::new();
    let mut rows: Vec<(&str, &Value)> = vec![("row", &op["row"])];
    rows.extend(
        op["rows"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|r| ("rows", r)),
    );
    for (member, row) in rows {
        for (name, value) in row.as_object().into_iter().flatten() {
            let mut one = op.clone();
            let row = tree!({name: value});
            one[member] = if member == "rows" { tree!([row]) } else { row };
            out.push(one);
        }
    }
    out
}

/// The operation on one row.
fn by_row(op: &Value) -> Vec<Value> {
    let mut out = Vec::new();
    if !op["where"].is_array() || op["op"] != "mutate" {
        return out;
    }
    for table in [0, 1, 2, 3, 4, 7] {
        for n in 0..8 {
            let mut one = op.clone();
            let id = format!("00000000-0000-4000-8000-{table}0000000000{n}");
            let clauses = one["where"].as_array_mut().unwrap();
            clauses.insert(0, tree!(["_uuid", "==", ["uuid", id]]));
            out.push(one);
        }
    }
    out
}
