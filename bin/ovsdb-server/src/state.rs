//! What was configured at run time, kept over a crash: with `--monitor` a new process takes over,
//! and it finds here the remotes, the databases and the role that the old one had at last.
//!
//! The keeper is a file without a name that the monitoring process and all its children share. It
//! is written as a whole; the length comes first and is written last.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use ferrovs_ovsdb::json;
use serde_json::{Value, json as tree};

use crate::config::Config;

/// The settings of active-backup replication that hold for all databases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sync {
    pub from: Option<String>,
    /// Databases and tables.
    pub exclude: BTreeSet<(String, String)>,
    /// The same as it was given.
    exclude_text: String,
    /// The role now.
    pub backup: bool,
    /// Milliseconds, if they were set.
    pub probe: Option<u64>,
    pub relay_probe: Option<u64>,
}

impl Sync {
    /// Takes the list of `--sync-exclude-tables`: `DB:TABLE` separated by commas or blanks.
    pub fn set_exclude(&mut self, list: &str) {
        list.clone_into(&mut self.exclude_text);
        self.exclude = list
            .split([',', ' '])
            .filter(|t| !t.is_empty())
            .map(|t| t.split_once(':').unwrap_or((t, "")))
            .map(|(db, table)| (db.to_owned(), table.to_owned()))
            .collect();
    }

    /// The list again.
    pub fn exclude_text(&self) -> &str {
        &self.exclude_text
    }
}

pub struct State {
    /// None where the system has no such files: then nothing is kept.
    file: Option<File>,
    /// Names of files are relative to where the program was started.
    directory: Option<PathBuf>,
}

impl State {
    pub fn new() -> Self {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        Self {
            file: rustix::fs::memfd_create("ovsdb-server", flags)
                .ok()
                .map(File::from),
            directory: std::env::current_dir().ok(),
        }
    }

    pub fn save(&self, config: &Config, sync: &Sync) {
        let Some(file) = &self.file else { return };
        let mut config = config.clone();
        if let Some(directory) = &self.directory {
            config.databases = std::mem::take(&mut config.databases)
                .into_iter()
                .map(|(name, db)| match db.model {
                    crate::config::Model::Relay => (name, db),
                    _ => (directory.join(name).to_string_lossy().into_owned(), db),
                })
                .collect();
        }
        let sync = tree!({
            "from": sync.from,
            "exclude": sync.exclude_text(),
            "backup": sync.backup,
            "probe": sync.probe,
            "relay-probe": sync.relay_probe,
        });
        let text = json::to_string(&tree!({"config": config.to_json(), "sync": sync}));
        let length = (text.len() as u64).to_le_bytes();
        // A full system loses what is kept, not what is served.
        let _ = file
            .write_all_at(&[0; 8], 0)
            .and_then(|()| file.write_all_at(text.as_bytes(), 8))
            .and_then(|()| file.write_all_at(&length, 0));
    }

    /// What was saved last, if anything.
    pub fn load(&self) -> Option<(Config, Sync)> {
        let file = self.file.as_ref()?;
        let mut length = [0; 8];
        file.read_exact_at(&mut length, 0).ok()?;
        let mut text = vec![0; usize::try_from(u64::from_le_bytes(length)).ok()?];
        if text.is_empty() {
            return None;
        }
        file.read_exact_at(&mut text, 8).ok()?;
        let json = json::parse_bytes(&text).ok()?;
        let config = Config::from_json(&json["config"]).ok()?;
        let saved = &json["sync"];
        let mut sync = Sync {
            from: saved["from"].as_str().map(str::to_owned),
            backup: saved["backup"] == Value::Bool(true),
            probe: saved["probe"].as_u64(),
            relay_probe: saved["relay-probe"].as_u64(),
            ..Sync::default()
        };
        sync.set_exclude(saved["exclude"].as_str().unwrap_or_default());
        Some((config, sync))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DbConfig;
    use crate::db_config::Options;

    #[test]
    fn lists_of_excluded_tables_read_as_open_vswitch_reads_them() {
        let mut sync = Sync::default();
        for (given, tables) in [
            ("U:a,T:b", &[("T", "b"), ("U", "a")][..]),
            ("T:b U:c,,x", &[("T", "b"), ("U", "c"), ("x", "")]),
            ("x:y:z;T:a", &[("x", "y:z;T:a")]),
            ("garbage", &[("garbage", "")]),
            ("", &[]),
        ] {
            sync.set_exclude(given);
            let got: Vec<(&str, &str)> = sync.exclude.iter().map(|(d, t)| (&**d, &**t)).collect();
            assert_eq!(got, tables);
            assert_eq!(sync.exclude_text(), given);
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let state = State::new();
        assert_eq!(state.load(), None);
        let mut config = Config::default();
        config.remotes.insert("punix:x".into(), Options::default());
        config.databases.insert("/a.db".into(), DbConfig::default());
        config
            .databases
            .insert("T".into(), DbConfig::relay("unix:y", Options::default()));
        let mut sync = Sync {
            from: Some("tcp:1.2.3.4:5".into()),
            backup: true,
            probe: Some(7000),
            ..Sync::default()
        };
        sync.set_exclude("T:a");
        state.save(&config, &sync);
        assert_eq!(state.load(), Some((config, sync)));
        state.save(&Config::default(), &Sync::default());
        assert_eq!(state.load(), Some((Config::default(), Sync::default())));
    }
}
