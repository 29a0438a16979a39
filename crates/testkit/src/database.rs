//! Random databases: schemas with every kind of type and constraint, rows, and transactions with all ten
//! operations, most of them right and a few wrong in every way that a client can get them wrong.
//!
//! Everything is drawn from a [`Choose`], so the same code serves differential tests (a [`Random`] with a seed)
//! and fuzzing (bytes of the fuzzer, which can then steer each choice).
//!
//! Rows have UUIDs from small pools, eight for each table, so that references, conditions and repeated inserts
//! meet often.

use serde_json::{Map, Value, json as tree};

/// Where choices come from.
pub trait Choose {
    /// A number under `n`, which is not 0.
    fn below(&mut self, n: usize) -> usize;

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// A generator that is the same for ever (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
}

impl Choose for Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }
}

const TABLES: [&str; 5] = ["A", "B", "C", "D", "E"];

/// The name that every schema has.
pub const NAME: &str = "d";

/// A schema.
pub fn schema(c: &mut impl Choose) -> Value {
    let n = 1 + c.below(TABLES.len());
    let tables: Map<String, Value> = TABLES[..n]
        .iter()
        .map(|t| (t.to_string(), table(c, n)))
        .collect();
    let mut schema = tree!({"name": NAME, "tables": tables});
    if c.chance(80) {
        schema["version"] = format!("{}.{}.0", c.below(9), c.below(99)).into();
    }
    if c.chance(20) {
        schema["cksum"] = "1234 56".into();
    }
    schema
}

/// A schema that has grown from another one: columns and tables that came, went, or changed their types.
pub fn descendant(c: &mut impl Choose, schema: &Value) -> Value {
    let mut next = schema.clone();
    let n = next["tables"].as_object().map_or(0, Map::len);
    for _ in 0..1 + c.below(4) {
        let Some(tables) = next["tables"].as_object_mut() else {
            break;
        };
        let names: Vec<String> = tables.keys().cloned().collect();
        let name = c.pick(&names).clone();
        match c.below(10) {
            0 if tables.len() > 1 => {
                tables.remove(&name);
            }
            1 => {
                tables.insert(TABLES[c.below(TABLES.len())].into(), table(c, n));
            }
            2..5 => {
                let column = column(c, n);
                tables[&name]["columns"][COLUMNS[c.below(COLUMNS.len())]] = column;
            }
            5..7 => {
                let columns = tables[&name]["columns"].as_object_mut();
                if let Some(columns) = columns.filter(|m| m.len() > 1) {
                    let gone = c.pick(&columns.keys().cloned().collect::<Vec<_>>()).clone();
                    columns.remove(&gone);
                }
            }
            7 => {
                // Looser: nothing can be refused.
                for column in tables[&name]["columns"]
                    .as_object_mut()
                    .into_iter()
                    .flatten()
                {
                    if column.1["type"].get("max").is_some() {
                        column.1["type"]["max"] = "unlimited".into();
                    }
                }
            }
            8 => {
                tables[&name]["isRoot"] = c.chance(50).into();
            }
            _ => {
                if let Some(t) = tables[&name].as_object_mut() {
                    t.remove("indexes");
                    t.remove("maxRows");
                }
            }
        }
    }
    next
}

const COLUMNS: [&str; 8] = ["a", "b", "c", "dd", "e_1", "F", "g", "h"];

fn table(c: &mut impl Choose, n_tables: usize) -> Value {
    let n = 1 + c.below(COLUMNS.len());
    let columns: Map<String, Value> = COLUMNS[..n]
        .iter()
        .map(|name| (name.to_string(), column(c, n_tables)))
        .collect();
    let lasting: Vec<String> = columns
        .iter()
        .filter(|(_, c)| c.get("ephemeral") != Some(&Value::Bool(true)))
        .map(|(n, _)| n.clone())
        .collect();
    let mut table = tree!({"columns": columns});
    if c.chance(65) {
        table["isRoot"] = true.into();
    }
    if c.chance(15) {
        table["maxRows"] = (1 + c.below(6)).into();
    }
    if c.chance(30) && !lasting.is_empty() {
        let mut indexes: Vec<Value> = Vec::new();
        for _ in 0..1 + c.below(2) {
            let mut names = vec![c.pick(&lasting).clone()];
            let second = c.pick(&lasting).clone();
            if !names.contains(&second) && c.chance(50) {
                names.push(second);
            }
            indexes.push(tree!(names));
        }
        table["indexes"] = tree!(indexes);
    }
    table
}

fn column(c: &mut impl Choose, n_tables: usize) -> Value {
    let key = base(c, n_tables);
    let is_ref = key.get("refTable").is_some();
    let mut ty = match c.below(10) {
        0..4 if !is_ref && c.chance(70) => {
            let mut column =
                tree!({"type": if key.is_string() { key } else { tree!({"key": key}) }});
            manners(c, &mut column);
            return column;
        }
        0..7 => tree!({"key": key}),
        _ => tree!({"key": key, "value": base(c, n_tables)}),
    };
    let required = if ty.to_string().contains("refTable") {
        20
    } else {
        50
    };
    if !c.chance(required) {
        ty["min"] = 0.into();
    } else if c.chance(20) {
        ty["min"] = 1.into();
    }
    match c.below(4) {
        0 => {}
        1 => ty["max"] = (1 + c.below(4)).into(),
        _ => ty["max"] = "unlimited".into(),
    }
    // Open vSwitch loses the whole database at the next start if a reference that must be there is not written.
    let vital = required == 20 && ty.get("min") != Some(&tree!(0));
    let mut column = tree!({"type": ty});
    manners(c, &mut column);
    if vital && let Some(column) = column.as_object_mut() {
        column.remove("ephemeral");
    }
    column
}

fn manners(c: &mut impl Choose, column: &mut Value) {
    if c.chance(8) {
        column["ephemeral"] = true.into();
    }
    if c.chance(8) {
        column["mutable"] = false.into();
    }
}

fn base(c: &mut impl Choose, n_tables: usize) -> Value {
    let plain = c.chance(50);
    match c.below(11) {
        0..3 if plain => "integer".into(),
        0..3 => match c.below(4) {
            0 => tree!({"type": "integer", "minInteger": -3}),
            1 => tree!({"type": "integer", "maxInteger": 4}),
            2 => tree!({"type": "integer", "minInteger": -2, "maxInteger": 5}),
            _ => tree!({"type": "integer", "enum": ["set", [-1, 0, 1, 3]]}),
        },
        3 | 4 if plain => "real".into(),
        3 | 4 => match c.below(4) {
            0 => tree!({"type": "real", "minReal": -1.5}),
            1 => tree!({"type": "real", "maxReal": 100}),
            2 => tree!({"type": "real", "minReal": -2, "maxReal": 2.75}),
            _ => tree!({"type": "real", "enum": ["set", [0, 0.1, 2.5]]}),
        },
        5 => "boolean".into(),
        6 | 7 if plain => "string".into(),
        6 | 7 => match c.below(5) {
            0 => tree!({"type": "string", "minLength": 1}),
            1 => tree!({"type": "string", "maxLength": 2}),
            2 => tree!({"type": "string", "minLength": 1, "maxLength": 3}),
            3 => tree!({"type": "string", "enum": "only"}),
            _ => tree!({"type": "string", "enum": ["set", ["", "a", "b c", "true"]]}),
        },
        8 if plain => "uuid".into(),
        n => {
            let table = TABLES[c.below(n_tables)];
            match n {
                8 | 9 if c.chance(50) => tree!({"type": "uuid", "refTable": table}),
                8 | 9 => tree!({"type": "uuid", "refTable": table, "refType": "strong"}),
                _ => tree!({"type": "uuid", "refTable": table, "refType": "weak"}),
            }
        }
    }
}

/// The JSON that no column wants, or only a few.
fn wrong(c: &mut impl Choose) -> Value {
    let wrong = [
        tree!(null),
        tree!(5),
        tree!("x"),
        tree!(1.5),
        tree!(true),
        tree!([]),
        tree!({}),
        tree!(["set"]),
        tree!(["set", 1]),
        tree!(["set", [1, 2]]),
        tree!(["set", [1, 1]]),
        tree!(["set", ["a", "a"]]),
        tree!(["set", [["set", []]]]),
        tree!(["map", []]),
        tree!(["map", [1]]),
        tree!(["map", [["a"]]]),
        tree!(["map", [["a", 1], ["a", 2]]]),
        tree!(["map", [[1, "a"], [1, "b"]]]),
        tree!(["uuid", "x"]),
        tree!(["uuid", 3]),
        tree!(["uuid"]),
        tree!(["named-uuid", "not an id"]),
        tree!(["named-uuid", "n0"]),
        tree!(["unknown", []]),
        tree!({"a": [1, {"b": "\u{1}\u{7f}é𝄞"}]}),
        tree!(9_223_372_036_854_775_807_i64),
    ];
    c.pick(&wrong).clone()
}

/// Makes transactions for a schema.
pub struct Generator<C> {
    pub choose: C,
    tables: Map<String, Value>,
}

impl<C: Choose> Generator<C> {
    pub fn new(choose: C, schema: &Value) -> Self {
        let tables = schema["tables"].as_object().cloned().unwrap_or_default();
        Self { choose, tables }
    }

    pub fn set_schema(&mut self, schema: &Value) {
        self.tables = schema["tables"].as_object().cloned().unwrap_or_default();
    }

    /// The names of all tables.
    pub fn tables(&self) -> impl Iterator<Item = &String> {
        self.tables.keys()
    }

    /// The name of a table.
    pub fn table(&mut self) -> String {
        let names: Vec<String> = self.tables.keys().cloned().collect();
        self.choose.pick(&names).clone()
    }

    /// The columns of a table and their types.
    pub fn columns(&self, table: &str) -> Vec<(String, Value)> {
        let columns = self.tables[table]["columns"].as_object();
        columns
            .into_iter()
            .flatten()
            .map(|(n, c)| (n.clone(), c["type"].clone()))
            .collect()
    }

    /// The UUID of a row that may be in the table, as text.
    pub fn uuid(&mut self, table: &str) -> String {
        let n = TABLES.iter().position(|t| *t == table).unwrap_or(7);
        format!(
            "00000000-0000-4000-8000-{n}0000000000{}",
            self.choose.below(8)
        )
    }

    fn atom(&mut self, base: &Value) -> Value {
        let fits = self.choose.chance(94);
        if let Some(values) = base.get("enum")
            && fits
        {
            return match values[1].as_array() {
                Some(values) => self.choose.pick(values).clone(),
                None => values.clone(),
            };
        }
        let c = &mut self.choose;
        match base["type"].as_str().or(base.as_str()).unwrap_or_default() {
            "integer" if fits && c.chance(97) => {
                let min = base["minInteger"].as_i64().unwrap_or(-2);
                let max = base["maxInteger"].as_i64().unwrap_or(min + 8);
                tree!(min + c.below((max - min + 1).min(9) as usize) as i64)
            }
            "integer" => {
                tree!(*c.pick(&[
                    i64::MAX,
                    i64::MIN,
                    i64::MAX - 1,
                    -10,
                    77,
                    1 << 32,
                    -(1 << 53) - 1
                ]))
            }
            "real" if fits => {
                tree!(*c.pick(&[0.0, 2.5, -1.25, 0.1, 1.0, -0.0, 2.0, 0.333_333_333_333_333]))
            }
            "real" => {
                tree!(*c.pick(&[1e308, -1e308, 1e-300, 1e10, 123_456.789, -1e15, 1e100, 4e18]))
            }
            "boolean" => tree!(c.chance(50)),
            "string" if base.get("maxLength").is_some() && fits => {
                (*c.pick(&["a", "b", "é", "zz", "é€"])).into()
            }
            "string" => (*c.pick(&[
                "",
                "a",
                "b",
                "ab",
                "é",
                "long \" \\ \u{1}",
                "true",
                "00000000-0000-4000-8000-000000000001",
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                "1",
                "[]",
            ]))
            .into(),
            _ if c.chance(20) => tree!(["named-uuid", format!("n{}", c.below(3))]),
            _ => {
                let table = base["refTable"].as_str().unwrap_or("A").to_owned();
                tree!(["uuid", self.uuid(&table)])
            }
        }
    }

    /// A value for a type; a few do not fit.
    pub fn value(&mut self, ty: &Value) -> Value {
        if self.choose.chance(2) {
            return wrong(&mut self.choose);
        }
        let key = if ty.is_string() { ty } else { &ty["key"] };
        let min = ty["min"].as_u64().unwrap_or(1) as usize;
        let unlimited = if ty["max"].is_string() { 4 } else { 1 };
        let mut max = (ty["max"].as_u64().unwrap_or(unlimited) as usize).clamp(1, 4);
        if self.choose.chance(2) {
            max += 1;
        }
        let n = min.min(max) + self.choose.below(max - min.min(max) + 1);
        let mut keys: Vec<Value> = Vec::new();
        for _ in 0..n {
            let k = self.atom(key);
            if !keys.contains(&k) || self.choose.chance(2) {
                keys.push(k);
            }
        }
        if let Some(value) = ty.get("value") {
            let pairs: Vec<Value> = keys
                .into_iter()
                .map(|k| Value::Array(vec![k, self.atom(value)]))
                .collect();
            return tree!(["map", pairs]);
        }
        match keys.len() {
            1 if self.choose.chance(80) => keys.remove(0),
            _ => tree!(["set", keys]),
        }
    }

    /// Values for about so many of the columns; those that must not be left out are likelier.
    pub fn row(&mut self, table: &str, percent: usize) -> Value {
        let mut row = Map::new();
        for (name, ty) in self.columns(table) {
            let wanted = ty.get("min") != Some(&tree!(0)) && ty.to_string().contains("refTable");
            if self
                .choose
                .chance(if wanted { percent.max(60) } else { percent })
            {
                let value = self.value(&ty);
                row.insert(name, value);
            }
        }
        if self.choose.chance(1) {
            let name = *self
                .choose
                .pick(&["_uuid", "_version", "nonexistent", "", "a b"]);
            row.insert(name.into(), wrong(&mut self.choose));
        }
        Value::Object(row)
    }

    /// One `[column, function, value]`, or a constant.
    pub fn clause(&mut self, table: &str) -> Value {
        if self.choose.chance(45) {
            let function = *self
                .choose
                .pick(&["==", "==", "==", "!=", "includes", "excludes"]);
            return tree!(["_uuid", function, ["uuid", self.uuid(table)]]);
        }
        if self.choose.chance(3) {
            return if self.choose.chance(50) {
                tree!(self.choose.chance(50))
            } else {
                wrong(&mut self.choose)
            };
        }
        let columns = self.columns(table);
        let (name, ty) = self.choose.pick(&columns).clone();
        let kind = ty.as_str().or(ty["key"].as_str());
        let kind = kind.or(ty["key"]["type"].as_str()).unwrap_or_default();
        let number = ["integer", "real"].contains(&kind) && ty.get("value").is_none();
        let functions: &[&str] = if number && ty["max"].as_u64().unwrap_or(1) == 1 {
            &["<", "<=", "==", "!=", ">=", ">", "includes", "excludes"]
        } else {
            &["==", "!=", "includes", "excludes"]
        };
        let mut function = *self.choose.pick(functions);
        if self.choose.chance(2) {
            function = *self.choose.pick(&["<", ">=", "=", ""]);
        }
        if self.choose.chance(1) {
            return tree!(["nonexistent", function, 1]);
        }
        tree!([name, function, self.value(&ty)])
    }

    pub fn condition(&mut self, table: &str) -> Value {
        let n = *self.choose.pick(&[0, 1, 1, 1, 1, 2, 3]);
        Value::Array((0..n).map(|_| self.clause(table)).collect())
    }

    fn mutation(&mut self, table: &str) -> Value {
        let columns = self.columns(table);
        let (name, ty) = self.choose.pick(&columns).clone();
        let key = ty.as_str().or(ty["key"].as_str());
        let key = key.or(ty["key"]["type"].as_str()).unwrap_or_default();
        let is_map = ty.get("value").is_some();
        let arithmetic = ["integer", "real"].contains(&key) && !is_map;
        let mutators: &[&str] = if arithmetic && (ty.is_string() || self.choose.chance(60)) {
            &["+=", "-=", "*=", "/=", "%="]
        } else {
            &["insert", "delete"]
        };
        let mut mutator = *self.choose.pick(mutators);
        if self.choose.chance(3) {
            mutator = *self
                .choose
                .pick(&["+=", "insert", "delete", "^=", "/=", "%="]);
        }
        let arg = match mutator {
            "insert" => self.value(&ty),
            "delete" if is_map && self.choose.chance(50) => {
                // The keys alone will do.
                let key = ty["key"].clone();
                self.value(&tree!({"key": key, "min": 0, "max": "unlimited"}))
            }
            "delete" => self.value(&ty),
            // Open vSwitch 3.1 takes the product of a negative integer and 0 for a crash, and that of two
            // negative ones for what it is not.
            "*=" if key == "integer" => tree!(2 + self.choose.below(2)),
            _ if self.choose.chance(90) => {
                let whole = [1, -1, 2, 0, 3, -2].map(|n| tree!(n));
                let any = [tree!(0.5), tree!(1), tree!(-1.5), tree!(0), tree!(1e300)];
                if key == "real" {
                    self.choose.pick(&any).clone()
                } else {
                    self.choose.pick(&whole).clone()
                }
            }
            _ => {
                let odd = [
                    tree!(i64::MAX),
                    tree!(i64::MIN),
                    tree!(1.5),
                    tree!("1"),
                    tree!(["set", [1]]),
                    tree!(["set", []]),
                    tree!(["set", [1, 2]]),
                    tree!(null),
                ];
                self.choose.pick(&odd).clone()
            }
        };
        tree!([name, mutator, arg])
    }

    /// One operation.
    pub fn operation(&mut self) -> Value {
        let mut op = self.right_operation();
        if self.choose.chance(2) {
            self.spoil(&mut op);
        }
        op
    }

    fn right_operation(&mut self) -> Value {
        let t = self.table();
        match self.choose.below(100) {
            0..34 => {
                let percent = *self.choose.pick(&[20, 50, 80]);
                let mut op = tree!({"op": "insert", "table": t, "row": self.row(&t, percent),
                                    "uuid": self.uuid(&t)});
                if self.choose.chance(40) {
                    op["uuid-name"] = format!("n{}", self.choose.below(3)).into();
                }
                op
            }
            34..52 => tree!({"op": "update", "table": t, "where": self.condition(&t),
                             "row": self.row(&t, 30)}),
            52..70 => {
                let n = 1 + self.choose.below(3);
                let mutations: Vec<Value> = (0..n).map(|_| self.mutation(&t)).collect();
                tree!({"op": "mutate", "table": t, "where": self.condition(&t),
                       "mutations": mutations})
            }
            70..79 => tree!({"op": "delete", "table": t, "where": self.condition(&t)}),
            79..91 => {
                let mut op = tree!({"op": "select", "table": t, "where": self.condition(&t)});
                if self.choose.chance(50) {
                    op["columns"] = self.some_columns(&t);
                }
                op
            }
            91..95 => {
                let until = *self.choose.pick(&["==", "!=", "=="]);
                let n = self.choose.below(3);
                let columns = self.some_columns(&t);
                let rows: Vec<Value> = (0..n).map(|_| self.row(&t, 30)).collect();
                let mut op = tree!({"op": "wait", "timeout": 0, "table": t, "until": until,
                                    "where": self.condition(&t), "rows": rows});
                if self.choose.chance(80) {
                    op["columns"] = columns;
                }
                op
            }
            95 => tree!({"op": "abort"}),
            96 => {
                tree!({"op": "comment", "comment": *self.choose.pick(&["c", "", "two\nlines é"])})
            }
            97 => tree!({"op": "commit", "durable": self.choose.chance(50)}),
            _ => tree!({"op": "assert", "lock": *self.choose.pick(&["held", "held", "other"])}),
        }
    }

    fn some_columns(&mut self, table: &str) -> Value {
        let mut names: Vec<String> = self.columns(table).into_iter().map(|c| c.0).collect();
        names.push("_uuid".into());
        let n = 1 + self.choose.below(names.len());
        let first = self.choose.below(names.len());
        names.rotate_left(first);
        names.truncate(n);
        if self.choose.chance(3) {
            names.push((*self.choose.pick(&["nonexistent", "a", "_version", "_uuid"])).into());
        }
        tree!(names)
    }

    /// Makes an operation one that no client should send.
    fn spoil(&mut self, op: &mut Value) {
        let Some(members) = op.as_object_mut() else {
            return;
        };
        let names: Vec<String> = members.keys().cloned().collect();
        let name = self.choose.pick(&names).clone();
        if name == "uuid" && members.get("op") == Some(&tree!("insert")) {
            // Rows keep the UUIDs of their pools.
            return;
        }
        match self.choose.below(5) {
            0 => {
                members.remove(&name);
            }
            1 => {
                members.insert(name, wrong(&mut self.choose));
            }
            2 => {
                let extra = *self.choose.pick(&["extra", "where", "timeout", "uuid", ""]);
                members.insert(extra.into(), wrong(&mut self.choose));
            }
            3 => {
                let other = *self.choose.pick(&[
                    "insert", "delete", "abort", "nothing", "", "commit", "assert", "wait",
                ]);
                members.insert("op".into(), other.into());
            }
            _ if self.choose.chance(50) => {
                members.insert("table".into(), "Nonexistent".into());
            }
            _ => *op = wrong(&mut self.choose),
        }
    }

    /// The parameters of one `transact`.
    pub fn transaction(&mut self) -> Value {
        let n = 1 + self.choose.below(5);
        let mut params = vec![tree!(NAME)];
        params.extend((0..n).map(|_| self.operation()));
        Value::Array(params)
    }

    /// What to monitor of each table: for `monitor` with the `select` of RFC 7047, for the conditional methods
    /// with a `where`.
    pub fn monitor(&mut self, conditional: bool) -> Value {
        let mut requests = Map::new();
        let names: Vec<String> = self.tables.keys().cloned().collect();
        for t in names {
            if self.choose.chance(10) {
                continue;
            }
            let mut request = Map::new();
            if self.choose.chance(50) {
                let mut columns: Vec<String> = self.columns(&t).into_iter().map(|c| c.0).collect();
                let n = 1 + self.choose.below(columns.len());
                columns.truncate(n);
                request.insert("columns".into(), tree!(columns));
            }
            if conditional && self.choose.chance(70) {
                request.insert("where".into(), self.monitor_condition(&t));
            }
            if self.choose.chance(15) {
                let kinds = ["initial", "insert", "delete", "modify"];
                let kind = *self.choose.pick(&kinds);
                request.insert("select".into(), tree!({kind: false}));
            }
            let request = Value::Object(request);
            requests.insert(
                t,
                if self.choose.chance(50) {
                    request
                } else {
                    tree!([request])
                },
            );
        }
        Value::Object(requests)
    }

    /// The columns that a request monitors, and when, without conditions.
    pub fn monitored(&self, requests: &Value) -> Value {
        let mut out = requests.clone();
        for (table, request) in out.as_object_mut().into_iter().flatten() {
            let mut one = request.get(0).unwrap_or(request).clone();
            let columns = self.columns(table).into_iter().map(|c| c.0);
            if let Some(one) = one.as_object_mut() {
                one.remove("where");
                one.entry("columns").or_insert_with(|| columns.collect());
            }
            *request = one;
        }
        out
    }

    /// A condition for a monitor that is right.
    pub fn monitor_condition(&mut self, table: &str) -> Value {
        let columns = self.columns(table);
        let n = self.choose.below(3);
        let mut clauses = Vec::new();
        for _ in 0..n {
            clauses.push(match self.choose.below(6) {
                0 => tree!(self.choose.chance(60)),
                1 => tree!(["_uuid", "==", ["uuid", self.uuid(table)]]),
                _ => {
                    let (name, ty) = self.choose.pick(&columns).clone();
                    let function = *self.choose.pick(&["==", "!=", "includes", "excludes"]);
                    let value = self.value(&ty);
                    tree!([name, function, value])
                }
            });
        }
        Value::Array(clauses)
    }
}

/// True if some column holds several members and at least one. Of such a column, Open vSwitch mixes up
/// differences from the default and whole values in records of new rows, so that its programs do not read what was
/// written.
pub fn is_misread(schema: &Value) -> bool {
    let mut tables = schema["tables"].as_object().unwrap().values();
    tables.any(|t| {
        let mut columns = t["columns"].as_object().unwrap().values();
        columns.any(|c| {
            let ty = &c["type"];
            ty["max"].as_u64().unwrap_or(2) > 1 && !ty["max"].is_null() && ty["min"] != 0
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_transactions_for_ever() {
        let make = |seed| {
            let mut random = Random::new(seed);
            let schema = schema(&mut random);
            let mut g = Generator::new(random, &schema);
            let transactions: Vec<Value> = (0..20).map(|_| g.transaction()).collect();
            (schema, transactions)
        };
        assert_eq!(make(7), make(7));
        assert_ne!(make(7), make(8));
    }
}
