//! The daemon's state and one turn of its loop.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use ferrovs_ovsdb::Error;
use ferrovs_ovsdb::server::{Compaction, Server};
use ferrovs_runtime::daemon::{self, Daemon};
use ferrovs_runtime::memory::Usage;
use ferrovs_runtime::options::Ssl;
use ferrovs_runtime::unixctl::{Output, Responder};
use ferrovs_runtime::vlog::RateLimit;
use ferrovs_runtime::vlog::modules::{OVSDB_FILE, OVSDB_SERVER, TRANSACTION};
use ferrovs_runtime::{Poller, clock, vlog};
use ferrovs_sync::Waker;
use ferrovs_sys::process::Exit;

use crate::arguments::{Arguments, Tls};
use crate::config::{Config, DbConfig};
use crate::databases::{self, Databases, from_argument};
use crate::db_config::{self, Options};
use crate::now::now;
use crate::remotes::Remotes;
use crate::state::{State, Sync};

/// Changes of logged tables: as many lines as Open vSwitch lets through.
static TLOG_LIMIT: RateLimit = RateLimit::new(30, 60);

pub struct App {
    pub server: Server,
    pub remotes: Remotes,
    /// What the user asked for, `db:` forms included.
    pub remote_names: BTreeMap<String, Options>,
    pub databases: Databases,
    /// The file that says what to serve, if one does.
    pub config_file: Option<PathBuf>,
    pub sync: Sync,
    state: State,
    pub tls: Tls,
    /// What the streams were told last.
    tls_now: Option<Ssl>,
    pub exiting: Vec<Responder>,
    daemon: Daemon,
    /// Database arguments that are not open yet.
    arguments: Vec<String>,
    /// Commits seen when the remotes were configured last.
    configured_at: Option<u64>,
    compactions: Vec<Running>,
    done: (mpsc::Sender<Written>, mpsc::Receiver<Written>),
    waker: Option<Arc<Waker>>,
}

/// A compaction that another thread writes.
struct Running {
    db: String,
    started: Instant,
    responder: Option<Responder>,
}

struct Written {
    db: String,
    result: Result<Compaction, Error>,
}

impl App {
    pub fn new(a: Arguments) -> Self {
        let mut server = Server::new(now());
        server.column_diff = a.column_diff;
        ferrovs_ovsdb::log::report_to(databases::warn);
        Self {
            server,
            remotes: Remotes::default(),
            remote_names: a
                .remotes
                .into_iter()
                .map(|r| (r, Options::default()))
                .collect(),
            databases: Databases::default(),
            config_file: a.config_file,
            sync: a.sync,
            state: a.state,
            tls: a.tls,
            tls_now: None,
            exiting: Vec::new(),
            daemon: a.daemon,
            arguments: a.databases,
            configured_at: None,
            compactions: Vec::new(),
            done: mpsc::channel(),
            waker: None,
        }
    }

    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// Opens what the command line or the configuration file names, or what an earlier process
    /// served when it crashed. False if something is missing, which the log names.
    pub fn open_databases(&mut self) -> bool {
        if self.config_file.is_some() {
            return self.load_config();
        }
        let mut wanted = Vec::new();
        if let Some((config, sync)) = self.state.load() {
            self.sync = sync;
            self.remote_names = config.remotes;
            wanted.extend(config.databases);
        } else {
            for argument in std::mem::take(&mut self.arguments) {
                let database = from_argument(&argument);
                // The same again is the same database.
                if wanted.contains(&database) {
                    let name = &database.0;
                    vlog::warn!(OVSDB_SERVER, "Duplicate database configuration: {name}");
                } else {
                    wanted.push(database);
                }
            }
        }
        let mut all = true;
        for (key, config) in wanted {
            let result = self.databases.add(&mut self.server, &key, &config, now());
            all &= databases::opened_or_logged(&key, result);
        }
        if !all {
            vlog::warn!(OVSDB_SERVER, "failed to configure databases");
        }
        if self.sync.from.is_some() {
            self.databases
                .set_roles(&mut self.server, &self.sync, now());
        }
        self.configured_at = None;
        self.save();
        all
    }

    /// Notes the configuration, for a process that may have to take over.
    pub fn save(&self) {
        if self.config_file.is_none() {
            let config = Config {
                remotes: self.remote_names.clone(),
                databases: self.databases.configured(),
            };
            self.state.save(&config, &self.sync);
        }
    }

    /// Takes the configuration that the file holds now, if it can be read.
    pub fn reload(&mut self) -> Result<(), String> {
        if self.config_file.is_none() {
            return Err("Configuration file was not specified on command line".into());
        }
        if self.load_config() & self.check_remotes() {
            Ok(())
        } else {
            Err("Configuration failed.  See the log file for details.".into())
        }
    }

    /// Serves what the configuration file says; false if some of it cannot be.
    fn load_config(&mut self) -> bool {
        let Some(path) = &self.config_file else {
            return true;
        };
        let name = path.display();
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(e) => {
                let why = ferrovs_ovsdb::error::strerror(&e);
                vlog::err!(
                    OVSDB_SERVER,
                    "failed to open configuration file '{name}': {why}"
                );
                return false;
            }
        };
        vlog::info!(OVSDB_SERVER, "loading configuration from '{name}'");
        let config = match Config::parse(&text) {
            Ok(config) => config,
            Err(lines) => {
                for line in lines {
                    vlog::warn!(OVSDB_SERVER, "{line}");
                }
                vlog::warn!(OVSDB_SERVER, "failed to load configuration from {name}");
                return false;
            }
        };
        let all = self
            .databases
            .replace_all(&mut self.server, &config.databases, now());
        self.remote_names = config.remotes;
        self.configured_at = None;
        all
    }

    pub fn add_db(&mut self, argument: &str) -> Result<(), String> {
        let (key, mut config) = from_argument(argument);
        if let (Some(s), Some(ms)) = (&mut config.source, self.sync.relay_probe) {
            s.options.probe_interval = Some(Duration::from_millis(ms));
        }
        self.databases.add(&mut self.server, &key, &config, now())?;
        let name = self.databases.name_of(&key);
        self.server
            .disconnect_unaware(&format!("adding {name} database"));
        if self.sync.from.is_some() && config == DbConfig::default() {
            self.databases
                .set_role(&mut self.server, &key, &self.sync, now());
        }
        Ok(())
    }

    pub fn remove_db(&mut self, name: &str) -> Result<(), String> {
        if name.starts_with('_') {
            return Err("Cannot remove reserved database.".into());
        }
        if !self.databases.remove(&mut self.server, name) {
            return Err("Failed to find the database.".into());
        }
        self.server
            .disconnect_unaware(&format!("removing {name} database by user request"));
        self.configured_at = None;
        Ok(())
    }

    /// Takes up the role that `sync` says, from the beginning.
    pub fn set_roles(&mut self) {
        self.databases
            .set_roles(&mut self.server, &self.sync, now());
    }

    /// Checks what names a database column, so that a mistake shows at the start; false if the log
    /// names one.
    pub fn check_remotes(&self) -> bool {
        let is_column =
            |n: &&String| n.starts_with("db:") && !db_config::is_pending(&self.server, n);
        let (server, names, tls) = (&self.server, &self.remote_names, &self.tls);
        let remotes = names.keys().filter(is_column);
        let remotes = remotes.filter_map(|n| db_config::parse_column(server, n).err());
        let texts = tls.names().filter(is_column);
        let texts = texts.filter_map(|n| db_config::parse_text_column(server, n).err());
        // All that is wrong with remotes is one message of several lines, and nothing is said of TLS then.
        let mut mistakes = ("remotes", remotes.collect::<String>());
        if mistakes.1.is_empty() {
            mistakes = ("SSL/TLS", texts.collect());
        }
        let (what, mistakes) = (mistakes.0, mistakes.1.trim_end());
        if !mistakes.is_empty() {
            vlog::warn!(OVSDB_SERVER, "failed to configure {what}: {mistakes}");
        }
        mistakes.is_empty()
    }

    /// Brings listeners and connections in line with the command line and the databases.
    pub fn reconfigure(&mut self) {
        // Without anything that is kept in a database, no transaction matters here.
        let commits = if self.watches_databases() {
            self.server.commits()
        } else {
            0
        };
        let due = self.remotes.retry_due(clock::now());
        if self.configured_at == Some(commits) && !due {
            return;
        }
        self.configured_at = Some(commits);
        self.configure_tls();
        let wanted = db_config::remotes(&self.server, &self.remote_names);
        self.remotes
            .configure(&mut self.server, wanted, clock::now());
    }

    fn watches_databases(&self) -> bool {
        self.remote_names
            .keys()
            .chain(self.tls.names())
            .any(|n| n.starts_with("db:"))
    }

    /// Gives the streams their TLS material, where it comes from a database as that says now.
    fn configure_tls(&mut self) {
        let resolve = |name: &Option<String>| -> Option<String> {
            let name = name.as_ref()?;
            if name.starts_with("db:") {
                db_config::text(&self.server, name)
            } else {
                Some(name.clone())
            }
        };
        let file = |name| resolve(name).map(PathBuf::from);
        // A restriction that is no longer in the database stays: nobody asked to lift it.
        let old = self.tls_now.clone().unwrap_or_default();
        let t = &self.tls;
        let ca = file(&t.ca_cert);
        let (ca_cert, bootstrap_ca_cert) = if t.bootstrap { (None, ca) } else { (ca, None) };
        let ssl = Ssl {
            private_key: file(&t.private_key),
            certificate: file(&t.certificate),
            ca_cert,
            bootstrap_ca_cert,
            peer_ca_cert: file(&t.peer_ca_cert),
            protocols: resolve(&t.protocols).or(old.protocols),
            ciphers: resolve(&t.ciphers).or(old.ciphers),
            ciphersuites: resolve(&t.ciphersuites).or(old.ciphersuites),
            server_name: t.server_name.clone(),
        };
        if self.tls_now.as_ref() != Some(&ssl) {
            ferrovs_stream::tls::reconfigure(&ssl);
            self.tls_now = Some(ssl);
        }
    }

    /// Forces `reconfigure` to look again.
    pub fn invalidate(&mut self) {
        self.configured_at = None;
    }

    /// One turn of the loop.
    pub fn run(&mut self) {
        self.remotes.run(&mut self.server);
        if self.databases.run(&mut self.server, now()) {
            self.sync.backup = self.databases.any_backup();
            self.save();
        }
        self.server.run(now());
        self.remotes.update_status(&mut self.server, now());
        for line in self.server.take_log_lines() {
            vlog::info_rl!(TLOG_LIMIT, TRANSACTION, "{line}");
        }
        self.finish_compactions();
        self.start_compactions();
        self.remotes.deliver(&mut self.server);
        // Last, so that what this turn changed is in place before the loop sleeps.
        self.reconfigure();
    }

    /// Takes what ends the loop's sleep. A thread that was started before this cannot.
    pub fn set_waker(&mut self, waker: Arc<Waker>) {
        self.waker = Some(waker);
    }

    pub fn wait(&mut self, poller: &mut Poller) {
        if let Some(d) = self.server.deadline() {
            poller.wait_until(d);
        }
        self.remotes.wait(&self.server, poller);
        self.databases.wait(poller);
    }

    /// Compacts on demand; the answer comes when it is done.
    pub fn compact(&mut self, name: &str, responder: Responder) -> Result<(), (String, Responder)> {
        match self.start_compaction(name, Some(responder)) {
            Ok(()) => Ok(()),
            Err((e, Some(r))) => Err((e, r)),
            Err((e, None)) => {
                vlog::warn!(OVSDB_SERVER, "{e}");
                Ok(())
            }
        }
    }

    /// Compacts without anybody who waits.
    pub fn compact_quietly(&mut self, name: &str) {
        if let Err((e, _)) = self.start_compaction(name, None) {
            vlog::warn!(OVSDB_SERVER, "{e}");
        }
    }

    fn start_compaction(
        &mut self,
        name: &str,
        responder: Option<Responder>,
    ) -> Result<(), (String, Option<Responder>)> {
        if let Some(running) = self.compactions.iter_mut().find(|c| c.db == name) {
            // One is under way already: it answers for this request too.
            match (running.responder.is_none(), responder) {
                (true, r) => running.responder = r,
                (false, Some(r)) => r.reply(Ok(Output::empty())),
                (false, None) => {}
            }
            return Ok(());
        }
        let diff = self.server.column_diff;
        let Some(db) = self.server.db_mut(name) else {
            return Err(("no database by that name".into(), responder));
        };
        let job = match db.start_compaction("compacting database online", diff, now()) {
            Ok(Some(job)) => job,
            Ok(None) => {
                if let Some(r) = responder {
                    r.reply(Ok(Output::empty()));
                }
                return Ok(());
            }
            Err(e) => return Err((e.to_string(), responder)),
        };
        self.compactions.push(Running {
            db: name.to_owned(),
            started: clock::now(),
            responder,
        });
        let (send, waker, db) = (self.done.0.clone(), self.waker.clone(), name.to_owned());
        std::thread::spawn(move || {
            let result = job.write();
            // The daemon is gone only when it exits.
            let _ = send.send(Written { db, result });
            if let Some(w) = waker {
                w.wake();
            }
        });
        Ok(())
    }

    fn finish_compactions(&mut self) {
        while let Ok(Written { db: name, result }) = self.done.1.try_recv() {
            let Some(i) = self.compactions.iter().position(|c| c.db == name) else {
                continue;
            };
            let running = self.compactions.swap_remove(i);
            let Some(db) = self.server.db_mut(&name) else {
                continue;
            };
            let result = db.finish_compaction(result);
            if let Some(old) = db.take_retired() {
                // The file system takes the old file apart; nobody should wait for that.
                std::thread::spawn(move || drop(old));
            }
            let ms = clock::now()
                .saturating_duration_since(running.started)
                .as_millis();
            if ms > 1000 {
                vlog::info!(OVSDB_FILE, "{name}: Database compaction took {ms}ms");
            }
            let reply = result.map(|()| Output::empty()).map_err(|e| e.to_string());
            match (running.responder, reply) {
                (Some(r), reply) => r.reply(reply),
                (None, Err(e)) => vlog::warn!(OVSDB_SERVER, "{e}"),
                (None, Ok(_)) => {}
            }
        }
    }

    fn start_compactions(&mut self) {
        let due = self.server.due_for_compaction(clock::now());
        for name in due {
            self.compact_quietly(&name);
        }
    }

    pub fn memory_usage(&self, usage: &mut Usage) {
        let (mut atoms, mut cells, mut monitors, mut triggers, mut weak) = (0, 0, 0, 0, 0);
        let mut caches = 0;
        for db in self.server.dbs() {
            atoms += db.database().n_atoms();
            cells += db.database().n_cells();
            monitors += db.n_monitors();
            caches += db.n_json_caches();
            triggers += db.n_triggers();
            weak += db.database().n_weak_refs();
        }
        usage.add("atoms", atoms as u64);
        usage.add("cells", cells as u64);
        if caches > 0 {
            usage.add("json-caches", caches as u64);
        }
        usage.add("monitors", monitors as u64);
        usage.add("n-weak-refs", weak as u64);
        let sessions = self.server.n_sessions();
        if sessions > 0 {
            usage.add("sessions", sessions as u64);
        }
        if triggers > 0 {
            usage.add("triggers", triggers as u64);
        }
        let backlog = self.remotes.backlog();
        if backlog > 0 {
            usage.add("backlog", backlog as u64);
        }
    }
}

/// The command of `--run`.
pub struct Child {
    command: String,
    end: mpsc::Receiver<std::io::Result<std::process::ExitStatus>>,
}

impl Child {
    pub fn start(command: &str, waker: Arc<Waker>) -> Self {
        let (send, end) = mpsc::channel();
        let spawned = std::process::Command::new("/bin/sh")
            .arg("-c")
            .arg(command)
            .spawn();
        std::thread::spawn(move || {
            let _ = send.send(spawned.and_then(|mut child| child.wait()));
            waker.wake();
        });
        Self {
            command: command.to_owned(),
            end,
        }
    }

    /// How it ended, if it did: an error is the text to die with.
    pub fn ended(&mut self) -> Option<Result<(), String>> {
        use std::os::unix::process::ExitStatusExt;
        let command = &self.command;
        match self.end.try_recv().ok()? {
            Ok(s) if s.success() => Some(Ok(())),
            Ok(s) => {
                let exit = match s.signal() {
                    Some(signal) => Exit::Signal {
                        signal,
                        core: s.core_dumped(),
                    },
                    None => Exit::Code(s.code().unwrap_or(-1)),
                };
                let exit = daemon::describe_exit(exit);
                Some(Err(format!("{command}: child exited, {exit}")))
            }
            Err(e) => Some(Err(format!("{command}: {e}"))),
        }
    }
}
