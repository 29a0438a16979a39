//! The databases that are served: opening and closing them, and keeping each one's way to its
//! source, if it has one, in line with its configuration.
//!
//! A set of databases is exchanged one by one: what cannot be opened is named in the log, and the
//! others are served.

use std::collections::BTreeMap;

use ferrovs_ovsdb::log::file::Mode;
use ferrovs_ovsdb::log::load::load;
use ferrovs_ovsdb::replication::Status;
use ferrovs_ovsdb::server::{Backing, Db, Now, SERVER_DB, Server};
use ferrovs_runtime::vlog::RateLimit;
use ferrovs_runtime::vlog::modules::{LOCKFILE, OVSDB_FILE, OVSDB_LOG, OVSDB_SERVER, RELAY};
use ferrovs_runtime::{Poller, vlog};

use crate::config::{DbConfig, Model, Source, parse_relay};
use crate::source::Fetcher;
use crate::state::Sync;

/// A database that is served.
struct Opened {
    /// File name, or none for a relay.
    file: Option<String>,
    config: DbConfig,
    fetcher: Option<Fetcher>,
}

#[derive(Default)]
pub struct Databases {
    by_name: BTreeMap<String, Opened>,
}

/// Failures of the storage: a full disk stays full for many transactions.
static STORAGE_LIMIT: RateLimit = RateLimit::new(5, 20);

/// Warnings of the file layer go to the log.
pub fn warn(module: &'static str, text: &str) {
    match module {
        "lockfile" => vlog::warn!(LOCKFILE, "{text}"),
        "ovsdb_log" => vlog::warn_rl!(STORAGE_LIMIT, OVSDB_LOG, "{text}"),
        "ovsdb_server" => vlog::err_rl!(STORAGE_LIMIT, OVSDB_SERVER, "{text}"),
        _ => vlog::warn!(OVSDB_FILE, "{text}"),
    }
}

/// Reads a database, or makes an empty one for a relay. `name` is that of a file or of a relay.
fn open(name: &str, config: &DbConfig) -> Result<(Db, Opened), String> {
    let is_relay = config.model == Model::Relay;
    let db = if is_relay {
        if name.starts_with('_') {
            vlog::warn!(RELAY, "Failed to remove relay database {name}: not found.");
            return Err(format!(
                "ovsdb error: {name}: names beginning with \"_\" are reserved"
            ));
        }
        Db::relay(name)
    } else {
        let loaded = load(name, Mode::ReadWrite, None, &warn).map_err(|e| e.to_string())?;
        if let Some(damage) = loaded.damage {
            vlog::err!(OVSDB_SERVER, "{damage}");
        }
        if let Some(why) = loaded.refused {
            vlog::err!(OVSDB_SERVER, "{why}");
        }
        if config.model == Model::Clustered {
            return Err(not_clustered(name));
        }
        Db::new(loaded.db, Backing::File(loaded.log))
    };
    let opened = Opened {
        file: (!is_relay).then(|| name.to_owned()),
        config: config.clone(),
        fetcher: None,
    };
    Ok((db, opened))
}

fn not_clustered(name: &str) -> String {
    format!("ovsdb error: {name}: database is standalone and not clustered")
}

/// Says in the log why a database of the configuration is not served.
pub fn opened_or_logged(key: &str, result: Result<(), String>) -> bool {
    if let Err(e) = &result {
        vlog::warn!(OVSDB_SERVER, "failed to open database '{key}': {e}");
    }
    result.is_ok()
}

impl Databases {
    /// Adds one database by its argument: a file, or `relay:NAME:REMOTE`.
    pub fn add(
        &mut self,
        server: &mut Server,
        name: &str,
        config: &DbConfig,
        now: Now,
    ) -> Result<(), String> {
        if self.has_file(name) {
            return Err(format!("ovsdb error: {name}: already open"));
        }
        let (db, opened) = open(name, config)?;
        let db_name = db.name().to_owned();
        if !server.add_db(db) {
            return Err(format!("ovsdb error: {db_name}: duplicate database name"));
        }
        self.by_name.insert(db_name.clone(), opened);
        self.connect(server, &db_name, now);
        Ok(())
    }

    fn has_file(&self, name: &str) -> bool {
        let canonical = std::fs::canonicalize(name).ok();
        let mut files = self.by_name.values().filter_map(|o| o.file.as_deref());
        files.any(|f| {
            f == name || (canonical.is_some() && std::fs::canonicalize(f).ok() == canonical)
        })
    }

    /// Removes a database; false if there is none.
    pub fn remove(&mut self, server: &mut Server, name: &str) -> bool {
        let Some(opened) = self.by_name.remove(name) else {
            return false;
        };
        if opened.fetcher.is_some_and(|f| f.is_relay()) {
            vlog::dbg!(RELAY, "removed database: {name}");
        }
        server.remove_db(name);
        true
    }

    /// Exchanges the whole set. What cannot be opened is not served, with the reason in the log;
    /// false then.
    pub fn replace_all(
        &mut self,
        server: &mut Server,
        wanted: &BTreeMap<String, DbConfig>,
        now: Now,
    ) -> bool {
        let key = |name: &str, o: &Opened| o.file.clone().unwrap_or_else(|| name.to_owned());
        let is_wanted = |name: &String, o: &Opened| {
            let config = wanted.get(&key(name, o));
            config.is_some_and(|c| (c.model == Model::Relay) == o.file.is_none())
        };
        let gone: Vec<String> = self
            .by_name
            .iter()
            .filter(|(name, o)| !is_wanted(name, o))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.remove(server, &name);
            server.disconnect_unaware(&format!("removing {name} database by user request"));
        }
        let served: BTreeMap<String, String> = self
            .by_name
            .iter()
            .map(|(name, o)| (key(name, o), name.clone()))
            .collect();
        let mut all = true;
        for (key, config) in wanted {
            let result = match served.get(key) {
                Some(_) if config.model == Model::Clustered => Err(not_clustered(key)),
                Some(name) => {
                    if let Some(o) = self.by_name.get_mut(name) {
                        o.config = config.clone();
                    }
                    self.connect(server, name, now);
                    Ok(())
                }
                None => self.add(server, key, config, now).inspect(|()| {
                    let name = self.name_of(key);
                    server.disconnect_unaware(&format!("adding {name} database"));
                }),
            };
            all &= opened_or_logged(key, result);
        }
        if !all {
            vlog::warn!(OVSDB_SERVER, "failed to configure databases");
        }
        all
    }

    /// Gives every database of a file the role that the settings for all of them ask for.
    pub fn set_roles(&mut self, server: &mut Server, sync: &Sync, now: Now) {
        let names: Vec<String> = self.by_name.keys().cloned().collect();
        for name in names {
            if let Some(o) = self.by_name.get_mut(&name).filter(|o| o.file.is_some()) {
                o.config = role(sync, &name);
                // Even what seems to be right starts anew: that is how one asks for it.
                o.fetcher = None;
                self.connect(server, &name, now);
            }
        }
    }

    /// The same for one database that was just added.
    pub fn set_role(&mut self, server: &mut Server, file: &str, sync: &Sync, now: Now) {
        let found = self.by_name.iter_mut();
        let mut found = found.filter(|(_, o)| o.file.as_deref() == Some(file));
        if let Some((name, o)) = found.next() {
            o.config = role(sync, name);
            let name = name.clone();
            self.connect(server, &name, now);
        }
    }

    /// Starts or ends the fetching of a database's contents, as configured.
    fn connect(&mut self, server: &mut Server, name: &str, now: Now) {
        let Some(o) = self.by_name.get_mut(name) else {
            return;
        };
        let source = o.config.fetched_from();
        if let Some(db) = server.db_mut(name) {
            db.read_only = source.is_some() && !db.is_relay();
        }
        let Some(source) = source else {
            o.fetcher = None;
            return;
        };
        let fits = |f: &mut Fetcher| f.adapt(&o.config, now.instant);
        if !o.fetcher.as_mut().is_some_and(fits) {
            if o.file.is_none() {
                server.cancel_forwards(name);
            }
            o.fetcher = Some(Fetcher::start(name, &o.config, source, now.instant));
        }
    }

    /// True if some backup failed, and is active now.
    pub fn run(&mut self, server: &mut Server, now: Now) -> bool {
        let mut failed = false;
        for (name, o) in &mut self.by_name {
            let Some(fetcher) = &mut o.fetcher else {
                continue;
            };
            fetcher.run(server, now);
            if fetcher.status() == Status::Failed {
                failed = true;
                o.fetcher = None;
                o.config.backup = false;
                if let Some(db) = server.db_mut(name) {
                    db.read_only = false;
                }
            }
        }
        failed
    }

    pub fn wait(&self, poller: &mut Poller) {
        for f in self.by_name.values().filter_map(|o| o.fetcher.as_ref()) {
            f.wait(poller);
        }
    }

    /// Sets how long sources of relays, or those of backups, may be silent.
    pub fn set_probe_interval(&mut self, relays: bool, interval: std::time::Duration) {
        for o in self.by_name.values_mut() {
            if let Some(f) = o.fetcher.as_mut().filter(|f| f.is_relay() == relays) {
                f.set_probe_interval(interval);
            }
            if let Some(s) = &mut o.config.source
                && (o.config.model == Model::Relay) == relays
            {
                s.options.probe_interval = Some(interval);
            }
        }
    }

    /// What `ovsdb-server/sync-status` says: of databases that were backups once, or are.
    pub fn sync_status(&self) -> String {
        let of_one = |(name, o): (&String, &Opened)| {
            let Some(f) = o.fetcher.as_ref().filter(|f| !f.is_relay()) else {
                return format!("database: {name}\nstate: active\n");
            };
            let source = f.name();
            if f.status() != Status::Replicating {
                return format!("database: {name}\nstate: backup\nconnecting: {source}");
            }
            let excluded = o.config.exclude.iter().map(|t| format!("{name}:{t}"));
            let excluded = excluded.collect::<Vec<_>>().join(",");
            let exclude = if excluded.is_empty() { "" } else { "exclude: " };
            format!("database: {name}\nstate: backup\nreplicating: {source}\n{exclude}{excluded}")
        };
        // Whoever comes after one in the order of names, be it the server's own database, which is
        // not told of, is worth a newline.
        let last = self.by_name.keys().map(String::as_str).max();
        let last = last.max(Some(SERVER_DB));
        let synced = self.by_name.iter();
        let synced = synced.filter(|(_, o)| o.config.model == Model::ActiveBackup);
        let mut all = String::new();
        for one in synced {
            all.push_str(&of_one(one));
            if Some(one.0.as_str()) != last {
                all.push('\n');
            }
        }
        if all.is_empty() {
            return "state: active\n".to_owned();
        }
        all
    }

    /// The name of the database that a file or a relay's key stands for.
    pub fn name_of(&self, key: &str) -> String {
        let found = self.by_name.iter();
        let mut found = found.filter(|(_, o)| o.file.as_deref() == Some(key));
        found.next().map_or(key, |(name, _)| name).to_owned()
    }

    /// Every database as it is configured now, by its file or, for relays, by its name.
    pub fn configured(&self) -> BTreeMap<String, DbConfig> {
        self.by_name
            .iter()
            .map(|(name, o)| (o.file.as_ref().unwrap_or(name).clone(), o.config.clone()))
            .collect()
    }

    /// True if some database is a backup.
    pub fn any_backup(&self) -> bool {
        self.by_name.values().any(|o| o.config.backup)
    }

    /// The servers that databases are backups of.
    pub fn active_servers(&self) -> Vec<String> {
        let mut all: Vec<String> = self
            .by_name
            .values()
            .filter(|o| o.config.model == Model::ActiveBackup)
            .filter_map(|o| o.config.source.as_ref())
            .map(|s| s.target.clone())
            .collect();
        all.sort();
        all.dedup();
        all
    }

    /// Every excluded table, `DB:TABLE`.
    pub fn excluded(&self) -> Vec<String> {
        let each = |(name, o): (&String, &Opened)| -> Vec<String> {
            let tables = o.config.exclude.iter();
            tables.map(|t| format!("{name}:{t}")).collect()
        };
        self.by_name.iter().flat_map(each).collect()
    }
}

/// How a database of a file is served under settings that hold for all.
fn role(sync: &Sync, name: &str) -> DbConfig {
    let Some(from) = &sync.from else {
        return DbConfig::default();
    };
    let mut source = Source {
        target: from.clone(),
        options: crate::db_config::Options::default(),
    };
    source.options.probe_interval = sync.probe.map(std::time::Duration::from_millis);
    let tables = sync.exclude.iter().filter(|(d, _)| d == name);
    DbConfig {
        model: Model::ActiveBackup,
        source: Some(source),
        backup: sync.backup,
        exclude: tables.map(|(_, t)| t.clone()).collect(),
    }
}

/// The key and configuration of a database argument: a file, or `relay:NAME:REMOTE`.
pub fn from_argument(argument: &str) -> (String, DbConfig) {
    match parse_relay(argument) {
        None => (argument.to_owned(), DbConfig::default()),
        Some((name, remotes)) => (
            name.to_owned(),
            DbConfig::relay(remotes, crate::db_config::Options::default()),
        ),
    }
}
