//! What the server is to serve: remotes and databases, each with its options.
//!
//! It comes from the command line, piece by piece by commands, or as a whole from the file of
//! `--config-file`:
//!
//! ```text
//! { "remotes":   { "TARGET": null | {"max-backoff": MS, "inactivity-probe": MS, "dscp": N,
//!                                    "read-only": BOOL, "role": "NAME"}, ... },
//!   "databases": { "FILE or, for relays, NAME": null |
//!                  {"service-model": "standalone" | "clustered" | "active-backup" | "relay",
//!                   "backup": BOOL,
//!                   "source": {"TARGET": null | {"max-backoff": .., "inactivity-probe": ..,
//!                                                "dscp": ..}},
//!                   "exclude-tables": ["TABLE", ...]}, ... } }
//! ```
//!
//! The same form carries what was configured at run time over a crash, see `state`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use ferrovs_ovsdb::parser::{Kind, Parser};
use ferrovs_ovsdb::{error, json};
use serde_json::{Map, Value, json as tree};

use crate::db_config::Options;

/// How a database is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Model {
    /// As its file says.
    #[default]
    Undefined,
    Standalone,
    Clustered,
    ActiveBackup,
    Relay,
}

const MODELS: [(Model, &str); 4] = [
    (Model::Standalone, "standalone"),
    (Model::Clustered, "clustered"),
    (Model::ActiveBackup, "active-backup"),
    (Model::Relay, "relay"),
];

/// Another server, and how to talk with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub target: String,
    pub options: Options,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DbConfig {
    pub model: Model,
    pub source: Option<Source>,
    /// In the active-backup model: this is the backup.
    pub backup: bool,
    /// Tables that a backup does not take from the active server.
    pub exclude: BTreeSet<String>,
}

impl DbConfig {
    pub fn relay(target: &str, options: Options) -> Self {
        Self {
            model: Model::Relay,
            source: Some(Source {
                target: target.to_owned(),
                options,
            }),
            ..Self::default()
        }
    }

    /// The server that the contents come from, if they do.
    pub fn fetched_from(&self) -> Option<&Source> {
        let fetches = self.model == Model::Relay || self.backup;
        self.source.as_ref().filter(|_| fetches)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub remotes: BTreeMap<String, Options>,
    pub databases: BTreeMap<String, DbConfig>,
}

impl Config {
    /// Reads a file; the error is what the log is to say.
    pub fn read(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let text = std::fs::read(path).map_err(|e| {
            let why = error::strerror(&e);
            format!("reading JSON failed (error opening \"{name}\": {why})")
        })?;
        let json = json::parse_bytes(&text).map_err(|e| format!("reading JSON failed ({e})"))?;
        Self::from_json(&json)
    }

    pub fn from_json(json: &Value) -> Result<Self, String> {
        if !json.is_object() {
            return Err("configuration in a file must be a JSON object".into());
        }
        let mut p = Parser::new(json, "config");
        let remotes = p.optional("remotes", Kind::OBJECT.or(Kind::NULL));
        let databases = p.optional("databases", Kind::OBJECT.or(Kind::NULL));
        p.finish().map_err(|e| format!("config: {e}"))?;
        let mut config = Self::default();
        for (target, options) in remotes.and_then(Value::as_object).into_iter().flatten() {
            let options = options_from_json(options, target, true)?;
            config.remotes.insert(target.clone(), options);
        }
        for (name, db) in databases.and_then(Value::as_object).into_iter().flatten() {
            let db = db_from_json(db, name)?;
            config.databases.insert(name.clone(), db);
        }
        Ok(config)
    }

    pub fn to_json(&self) -> Value {
        let remotes = self.remotes.iter();
        let remotes: Map<_, _> = remotes
            .map(|(n, o)| (n.clone(), options_to_json(o)))
            .collect();
        let databases = self.databases.iter();
        let databases: Map<_, _> = databases.map(|(n, d)| (n.clone(), db_to_json(d))).collect();
        tree!({"remotes": remotes, "databases": databases})
    }
}

/// The options of a connection. Those to a source have no say in what clients may do.
fn options_from_json(json: &Value, target: &str, clients: bool) -> Result<Options, String> {
    let mut options = Options::default();
    if json.is_null() {
        return Ok(options);
    }
    let mut p = Parser::new(json, format!("JSON-RPC options for {target}"));
    let number = |p: &mut Parser<'_>, name| p.optional(name, Kind::INTEGER).and_then(Value::as_i64);
    let millis = |n: i64| Duration::from_millis(n.clamp(0, i64::from(i32::MAX)).unsigned_abs());
    options.max_backoff = number(&mut p, "max-backoff").map(millis);
    options.probe_interval = number(&mut p, "inactivity-probe").map(millis);
    if let Some(dscp) = number(&mut p, "dscp") {
        match u8::try_from(dscp) {
            Ok(d) if d < 64 => options.dscp = Some(d),
            _ => p.raise("'dscp' must be between 0 and 63"),
        }
    }
    if clients {
        let read_only = p.optional("read-only", Kind::BOOLEAN);
        options.read_only = read_only.and_then(Value::as_bool).unwrap_or(false);
        let role = p.optional("role", Kind::STRING).and_then(Value::as_str);
        role.unwrap_or_default().clone_into(&mut options.role);
    }
    p.finish().map_err(|e| e.to_string())?;
    Ok(options)
}

fn options_to_json(o: &Options) -> Value {
    let mut m = Map::new();
    let mut put = |name: &str, v: Value| m.insert(name.to_owned(), v);
    let millis = |d: Duration| Value::from(d.as_millis() as u64);
    o.max_backoff.map(|d| put("max-backoff", millis(d)));
    o.probe_interval.map(|d| put("inactivity-probe", millis(d)));
    o.dscp.map(|d| put("dscp", d.into()));
    if o.read_only {
        put("read-only", true.into());
    }
    if !o.role.is_empty() {
        put("role", o.role.as_str().into());
    }
    Value::Object(m)
}

fn db_from_json(json: &Value, name: &str) -> Result<DbConfig, String> {
    let mut db = DbConfig::default();
    if json.is_null() {
        return Ok(db);
    }
    let mut p = Parser::new(json, format!("database {name}"));
    if let Some(model) = p.optional("service-model", Kind::STRING) {
        match MODELS.iter().find(|(_, n)| model == n) {
            Some((m, _)) => db.model = *m,
            None => {
                let model = model.as_str().unwrap_or_default();
                p.raise(format!("'{model}' is not a valid service model"));
            }
        }
    }
    let mut source = None;
    match db.model {
        Model::ActiveBackup => {
            let backup = p.optional("backup", Kind::BOOLEAN);
            db.backup = backup.and_then(Value::as_bool).unwrap_or(false);
            source = if db.backup {
                p.required("source", Kind::OBJECT)
            } else {
                p.optional("source", Kind::OBJECT)
            };
            let tables = p.optional("exclude-tables", Kind::ARRAY);
            for t in tables.and_then(Value::as_array).into_iter().flatten() {
                match t.as_str() {
                    Some(t) => {
                        db.exclude.insert(t.to_owned());
                    }
                    None => p.raise("'exclude-tables' must be an array of strings"),
                }
            }
        }
        Model::Relay => source = p.required("source", Kind::OBJECT),
        Model::Undefined | Model::Standalone | Model::Clustered => {}
    }
    let source = source.and_then(Value::as_object);
    if source.is_some_and(|m| m.len() != 1) {
        p.raise("'source' should be an object with exactly one element");
    }
    p.finish().map_err(|e| e.to_string())?;
    if let Some((target, options)) = source.and_then(|m| m.iter().next()) {
        db.source = Some(Source {
            target: target.clone(),
            options: options_from_json(options, target, false)?,
        });
    }
    Ok(db)
}

fn db_to_json(db: &DbConfig) -> Value {
    let mut m = Map::new();
    if let Some((_, name)) = MODELS.iter().find(|(m, _)| *m == db.model) {
        m.insert("service-model".into(), (*name).into());
    }
    if db.model == Model::ActiveBackup {
        m.insert("backup".into(), db.backup.into());
        let tables: Vec<&str> = db.exclude.iter().map(String::as_str).collect();
        m.insert("exclude-tables".into(), tables.into());
    }
    if let Some(s) = &db.source {
        let mut source = Map::new();
        source.insert(s.target.clone(), options_to_json(&s.options));
        m.insert("source".into(), source.into());
    }
    Value::Object(m)
}

/// `relay:NAME:REMOTE[,REMOTE...]` taken apart; none if it is the name of a file.
pub fn parse_relay(argument: &str) -> Option<Result<(&str, &str), String>> {
    let rest = argument.strip_prefix("relay:")?;
    Some(match rest.split_once(':') {
        Some((name, _)) if name.starts_with('_') => Err(format!(
            "ovsdb error: {name}: names beginning with \"_\" are reserved"
        )),
        Some((name, remotes)) if !name.is_empty() => Ok((name, remotes)),
        _ => Err(format!("ovsdb error: {argument}: invalid syntax")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_survives_its_own_json() {
        let text = r#"{"remotes":{"punix:a":null,"pssl:6640":{"inactivity-probe":16000,
            "max-backoff":8000,"dscp":10,"read-only":true,"role":"ovn-controller"}},
            "databases":{"conf.db":null,
              "sb.db":{"service-model":"active-backup","backup":true,"exclude-tables":["a","b"],
                       "source":{"tcp:10.0.0.1:6642":{"max-backoff":1000}}},
              "R":{"service-model":"relay","source":{"unix:x,unix:y":null}}}}"#;
        let config = Config::from_json(&serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(config.remotes["pssl:6640"].role, "ovn-controller");
        assert!(config.databases["sb.db"].fetched_from().is_some());
        assert_eq!(Config::from_json(&config.to_json()).unwrap(), config);
    }

    #[test]
    fn mistakes_are_named() {
        let error =
            |text: &str| Config::from_json(&serde_json::from_str(text).unwrap()).unwrap_err();
        assert_eq!(error("[]"), "configuration in a file must be a JSON object");
        for (text, part) in [
            (r#"{"remote":{}}"#, "Member 'remote' is present"),
            (r#"{"remotes":[]}"#, "Type mismatch for member 'remotes'"),
            (r#"{"remotes":{"x":{"dscp":64}}}"#, "between 0 and 63"),
            (r#"{"databases":{"x":{"source":{}}}}"#, "Member 'source'"),
            (
                r#"{"databases":{"x":{"service-model":"relay"}}}"#,
                "Required 'source' member is missing",
            ),
            (
                r#"{"databases":{"x":{"service-model":"relay","source":{}}}}"#,
                "exactly one element",
            ),
            (
                r#"{"databases":{"x":{"service-model":"best"}}}"#,
                "'best' is not a valid service model",
            ),
            (
                r#"{"databases":{"x":{"service-model":"relay","source":{"y":{"role":"z"}}}}}"#,
                "Member 'role'",
            ),
        ] {
            let e = error(text);
            assert!(e.contains(part), "{text}: {e}");
        }
    }

    #[test]
    fn relay_arguments_are_told_from_files() {
        assert!(parse_relay("conf.db").is_none());
        assert_eq!(
            parse_relay("relay:T:tcp:1.2.3.4:6640,unix:x"),
            Some(Ok(("T", "tcp:1.2.3.4:6640,unix:x")))
        );
        assert_eq!(
            parse_relay("relay:T"),
            Some(Err("ovsdb error: relay:T: invalid syntax".into()))
        );
        assert_eq!(
            parse_relay("relay:_S:x"),
            Some(Err(
                "ovsdb error: _S: names beginning with \"_\" are reserved".into()
            ))
        );
    }
}
