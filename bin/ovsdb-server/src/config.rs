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
use std::time::Duration;

use ferrovs_ovsdb::json;
use ferrovs_ovsdb::parser::{Kind, Parser};
use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::OVSDB_JSONRPC_SERVER;
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

/// What the log is to say of a mistake, line by line.
type Lines = Vec<String>;

impl Config {
    /// Reads the text of a file. Members that are not there mean that there is nothing to serve.
    pub fn parse(text: &[u8]) -> Result<Self, Lines> {
        let json = json::parse_bytes(text)
            .map_err(|e| vec![format!("config: reading JSON failed ({e})")])?;
        Self::from_json(&json)
    }

    pub fn from_json(json: &Value) -> Result<Self, Lines> {
        if !json.is_object() {
            return Err(vec!["configuration in a file must be a JSON object".into()]);
        }
        let mut config = Self::default();
        let failed = |what: &str, why: String, mut lines: Lines| {
            lines.extend([why, format!("config: failed to parse '{what}'")]);
            lines
        };
        let remotes = members(json, "remotes").map_err(|why| failed("remotes", why, Vec::new()))?;
        for (target, options) in remotes {
            let Some(options) = options_from_json(options, true) else {
                let why = format!("{target}: JSON-RPC options are not a JSON object or null");
                return Err(failed("remotes", why, Vec::new()));
            };
            config.remotes.insert(target.clone(), options);
        }
        let databases = members(json, "databases")
            .map_err(|why| failed("databases", format!("{why} or null"), Vec::new()))?;
        for (name, db) in databases {
            let mut before = Vec::new();
            match db_from_json(db, name, &mut before) {
                Ok(db) => config.databases.insert(name.clone(), db),
                Err(e) => return Err(failed("databases", e, before)),
            };
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

/// The members of one half of the configuration.
fn members<'a>(
    json: &'a Value,
    name: &str,
) -> Result<impl Iterator<Item = (&'a String, &'a Value)>, String> {
    match json.get(name) {
        None | Some(Value::Null) => Ok(None.into_iter().flatten()),
        Some(Value::Object(m)) => Ok(Some(m).into_iter().flatten()),
        Some(_) => Err(format!("config: '{name}' is not a JSON object")),
    }
}

/// The options of a connection, if they are an object or null. Those to a source have no say in
/// what clients may do. Other mistakes are only logged.
fn options_from_json(json: &Value, clients: bool) -> Option<Options> {
    let mut options = Options::default();
    if json.is_null() {
        return Some(options);
    }
    json.as_object()?;
    let mut p = Parser::new(json, "JSON-RPC options");
    let number = |p: &mut Parser<'_>, name| p.optional(name, Kind::INTEGER).and_then(Value::as_i64);
    let millis = |n: i64| Duration::from_millis(n.clamp(0, i64::from(i32::MAX)).unsigned_abs());
    options.max_backoff = number(&mut p, "max-backoff").map(millis);
    options.probe_interval = number(&mut p, "inactivity-probe").map(millis);
    let dscp = number(&mut p, "dscp").and_then(|n| u8::try_from(n).ok());
    options.dscp = dscp.filter(|d| *d < 64);
    if clients {
        let read_only = p.optional("read-only", Kind::BOOLEAN);
        options.read_only = read_only.and_then(Value::as_bool).unwrap_or(false);
        let role = p.optional("role", Kind::STRING).and_then(Value::as_str);
        role.unwrap_or_default().clone_into(&mut options.role);
    }
    if let Err(e) = p.finish() {
        vlog::warn!(OVSDB_JSONRPC_SERVER, "{e}");
    }
    Some(options)
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

fn db_from_json(json: &Value, name: &str, lines: &mut Lines) -> Result<DbConfig, String> {
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
                lines.push(format!("Unrecognized database service model: '{model}'"));
                p.raise(format!("'{model}' is not a valid service model"));
            }
        }
    }
    let mut source = None;
    match db.model {
        Model::ActiveBackup => {
            let backup = p.required("backup", Kind::BOOLEAN);
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
                    None => p.raise("'exclude-tables' must contain strings"),
                }
            }
        }
        Model::Relay => source = p.required("source", Kind::OBJECT),
        Model::Undefined | Model::Standalone | Model::Clustered => {}
    }
    if let Some(source) = source.and_then(Value::as_object) {
        let mut sources = source.iter();
        match (sources.next(), sources.next()) {
            (Some((target, options)), None) => match options_from_json(options, false) {
                Some(options) => {
                    let target = target.clone();
                    db.source = Some(Source { target, options });
                }
                None => p.raise("JSON-RPC options is not a JSON object or null"),
            },
            _ => p.raise("'source' should be an object with exactly one element"),
        }
    }
    p.finish().map_err(|e| e.to_string())?;
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
pub fn parse_relay(argument: &str) -> Option<(&str, &str)> {
    let (name, remotes) = argument.strip_prefix("relay:")?.split_once(':')?;
    (!name.is_empty()).then_some((name, remotes))
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
        let lines = |text: &str| Config::parse(text.as_bytes()).unwrap_err();
        assert_eq!(
            lines("[]"),
            ["configuration in a file must be a JSON object"]
        );
        assert_eq!(
            lines("{"),
            ["config: reading JSON failed (line 0, column 1, byte 1: unexpected end of input)"]
        );
        for (text, why) in [
            (r#"[]"#, "config: 'remotes' is not a JSON object"),
            (
                r#"{"x":5}"#,
                "x: JSON-RPC options are not a JSON object or null",
            ),
        ] {
            assert_eq!(
                lines(&format!(r#"{{"remotes":{text}}}"#)),
                [why, "config: failed to parse 'remotes'"]
            );
        }
        for (db, why) in [
            ("5", "Object expected."),
            (
                r#"{"source":{}}"#,
                "Member 'source' is present but not allowed here.",
            ),
            (
                r#"{"service-model":"active-backup"}"#,
                "Required 'backup' member is missing.",
            ),
            (
                r#"{"service-model":"relay"}"#,
                "Required 'source' member is missing.",
            ),
            (
                r#"{"service-model":"relay","source":{}}"#,
                "'source' should be an object with exactly one element",
            ),
            (
                r#"{"service-model":"relay","source":{"y":5}}"#,
                "JSON-RPC options is not a JSON object or null",
            ),
        ] {
            let syntax = match db {
                "5" => String::new(),
                _ => format!("syntax \"{db}\": "),
            };
            assert_eq!(
                lines(&format!(r#"{{"databases":{{"x":{db}}}}}"#)),
                [
                    format!("{syntax}syntax error: Parsing database x failed: {why}"),
                    "config: failed to parse 'databases'".to_owned()
                ]
            );
        }
        let model = lines(r#"{"databases":{"x":{"service-model":"best"}}}"#);
        assert_eq!(model[0], "Unrecognized database service model: 'best'");
        assert!(model[1].ends_with("'best' is not a valid service model"));
    }

    #[test]
    fn mistakes_in_options_are_no_reason_not_to_serve() {
        let text = r#"{"remotes":{"x":{"dscp":64,"role":5,"read-only":true}},
            "databases":{"R":{"service-model":"relay","source":{"y":{"role":"z","max-backoff":1000}}}}}"#;
        let config = Config::parse(text.as_bytes()).unwrap();
        assert!(config.remotes["x"].read_only && config.remotes["x"].dscp.is_none());
        let source = config.databases["R"].source.as_ref().unwrap();
        assert_eq!(source.options.max_backoff, Some(Duration::from_secs(1)));
    }

    #[test]
    fn relay_arguments_are_told_from_files() {
        assert!(parse_relay("conf.db").is_none());
        assert!(parse_relay("relay:T").is_none());
        assert_eq!(
            parse_relay("relay:T:tcp:1.2.3.4:6640,unix:x"),
            Some(("T", "tcp:1.2.3.4:6640,unix:x"))
        );
    }
}
