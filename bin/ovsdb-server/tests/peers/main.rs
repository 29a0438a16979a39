//! Servers that follow other servers: backups and relays, ours and Open vSwitch's on either side,
//! and what decides who follows whom: commands, a configuration file, a crash.

mod backup;
mod configured;
mod host;
mod relay;

use ferrovs_testkit::Programs;
use ferrovs_testkit::oracle::oracle;

/// Source and follower: ours with ours, and ours on either side of Open vSwitch's.
fn casts() -> [(&'static str, Programs, Programs); 3] {
    let (ours, theirs) = (Programs::ours(), oracle());
    [
        ("ours of ours", ours.clone(), ours.clone()),
        ("ours of theirs", theirs.clone(), ours.clone()),
        ("theirs of ours", ours, theirs),
    ]
}

/// The schema of the database `T`.
const SCHEMA: &str = r#"{"name":"T","version":"1.0.0","tables":{
  "a":{"isRoot":true,"columns":{
    "s":{"type":"string"},
    "n":{"type":{"key":"integer","min":0,"max":"unlimited"}},
    "m":{"type":{"key":"string","value":"string","min":0,"max":"unlimited"}},
    "r":{"type":{"key":{"type":"uuid","refTable":"b"},"min":0,"max":"unlimited"}}}},
  "b":{"columns":{"name":{"type":"string"}}},
  "c":{"isRoot":true,"columns":{"s":{"type":"string"}}}}}"#;

/// A row of each kind.
const FILL: &str = r#"["T",
  {"op":"insert","table":"a","row":{"s":"one","n":["set",[1,2,3]],"m":["map",[["k","v"]]],
   "r":["named-uuid","q"]}},
  {"op":"insert","table":"b","uuid-name":"q","row":{"name":"bb"}},
  {"op":"insert","table":"c","row":{"s":"kept back"}}]"#;
/// Sets and maps change by a part, and a row comes.
const CHANGE: &str = r#"["T",
  {"op":"mutate","table":"a","where":[],"mutations":[["n","insert",["set",[5]]],
   ["n","delete",["set",[1]]],["m","insert",["map",[["x","y"]]]]]},
  {"op":"insert","table":"a","row":{"s":"two"}}]"#;
/// A row goes, and what only it referred to.
const DELETE: &str = r#"["T",{"op":"delete","table":"a","where":[["s","==","one"]]}]"#;
