//! A connection to another server that a database's contents come from, and the machine that talks
//! over it: `Replication` for a backup, `Relay` for a relay.

use std::time::{Duration, Instant};

use ferrovs_ovsdb::peer::{Level, Said, Speaker};
use ferrovs_ovsdb::relay::Relay;
use ferrovs_ovsdb::replication::{Replication, Status};
use ferrovs_ovsdb::server::{Now, Server};
use ferrovs_runtime::vlog::modules::{OVSDB_CS, OVSDB_ERROR, RELAY, REPLICATION};
use ferrovs_runtime::{Poller, vlog};
use ferrovs_stream::jsonrpc::{Msg, Session, Text};

use crate::config::{DbConfig, Model, Source};
use crate::db_config::Options;

/// Messages taken from one source in one turn of the loop.
const MESSAGES_PER_TURN: usize = 50;
/// How long a source may be silent before it is probed, unless told otherwise.
const PROBE_INTERVAL: Duration = Duration::from_secs(60);

enum Machine {
    Backup(Replication),
    Relay(Relay),
}

/// A database's way to its source.
pub struct Fetcher {
    config: DbConfig,
    machine: Machine,
    session: Session,
    seqno: u64,
}

impl Fetcher {
    /// Starts to fetch the named database; `config` has a source.
    pub fn start(db: &str, config: &DbConfig, source: &Source, now: Instant) -> Self {
        let (machine, targets) = if config.model == Model::Relay {
            let mut targets: Vec<String> = source
                .target
                .split([',', ' '])
                .filter(|t| !t.is_empty())
                .map(str::to_owned)
                .collect();
            if targets.is_empty() {
                targets.push("invalid:".to_owned());
            }
            shuffle(&mut targets);
            vlog::dbg!(RELAY, "added database: {db}, {}", source.target);
            (Machine::Relay(Relay::new(db)), targets)
        } else {
            let replication = Replication::new(db, config.exclude.clone());
            (Machine::Backup(replication), vec![source.target.clone()])
        };
        let mut fetcher = Self {
            config: config.clone(),
            machine,
            session: Session::open_multiple(targets, true, now),
            seqno: 0,
        };
        fetcher.set_options(&source.options, now);
        fetcher
    }

    /// Whether this is what another configuration of the database wants, up to options, which are
    /// brought in line.
    pub fn adapt(&mut self, config: &DbConfig, now: Instant) -> bool {
        let (Some(old), Some(new)) = (self.config.fetched_from(), config.fetched_from()) else {
            return false;
        };
        if (self.config.model, &self.config.exclude, &old.target)
            != (config.model, &config.exclude, &new.target)
        {
            return false;
        }
        if old.options != new.options {
            let options = new.options.clone();
            self.set_options(&options, now);
            self.config = config.clone();
        }
        true
    }

    fn set_options(&mut self, options: &Options, now: Instant) {
        if let Some(d) = options.max_backoff {
            self.session.set_max_backoff(d.max(Duration::from_secs(1)));
        }
        self.set_probe_interval(options.probe_interval.unwrap_or(PROBE_INTERVAL));
        if let Some(d) = options.dscp {
            self.session.set_dscp(d, now);
        }
    }

    /// Zero turns probes off.
    pub fn set_probe_interval(&mut self, interval: Duration) {
        self.session
            .set_probe_interval((!interval.is_zero()).then_some(interval));
    }

    pub fn is_relay(&self) -> bool {
        matches!(self.machine, Machine::Relay(_))
    }

    /// The state of a backup.
    pub fn status(&self) -> Status {
        match &self.machine {
            Machine::Backup(r) => r.status(),
            Machine::Relay(_) => Status::Connecting,
        }
    }

    pub fn name(&self) -> &str {
        self.session.name()
    }

    pub fn run(&mut self, server: &mut Server, now: Now) {
        self.session.run(now.instant);
        if self.session.seqno() != self.seqno {
            self.seqno = self.session.seqno();
            self.connection_changed(server, now);
        }
        for _ in 0..MESSAGES_PER_TURN {
            let Some(msg) = self.session.recv(now.instant) else {
                break;
            };
            self.message(&msg, server, now);
        }
        if let Machine::Relay(r) = &mut self.machine {
            r.run(server, now.instant);
            if r.wants_reconnect() {
                self.session.force_reconnect(now.instant);
            }
        }
        self.send();
        self.log();
    }

    fn connection_changed(&mut self, server: &mut Server, now: Now) {
        let connected = self.session.is_connected();
        match &mut self.machine {
            Machine::Backup(r) if connected => r.connected(),
            Machine::Backup(_) => {}
            Machine::Relay(r) => {
                // A new connection ends what was under way over an old one.
                r.disconnected(server, now.instant);
                if connected {
                    r.connected(self.session.name());
                }
            }
        }
    }

    fn message(&mut self, msg: &Msg, server: &mut Server, now: Now) {
        let (id, result) = match msg {
            Msg::Notify { method, params } => {
                return match &mut self.machine {
                    Machine::Backup(r) => r.notification(method, params, server, now),
                    Machine::Relay(r) => r.notification(method, params, server, now),
                };
            }
            Msg::Reply { id, result } => (id, Ok(result)),
            Msg::Error { id, error } => (id, Err(error)),
            // Nobody calls a client.
            Msg::Request { .. } => return,
        };
        match &mut self.machine {
            Machine::Backup(r) => r.reply(id, result, server, now),
            Machine::Relay(r) => r.reply(id, result, server, now),
        }
    }

    fn send(&mut self) {
        let calls = match &mut self.machine {
            Machine::Backup(r) => r.take_calls(),
            Machine::Relay(r) => r.take_calls(),
        };
        let texts = calls.into_iter().map(|c| Text::Own(c.into_text()));
        self.session.send_texts(texts);
    }

    fn log(&mut self) {
        let said = match &mut self.machine {
            Machine::Backup(r) => r.take_said(),
            Machine::Relay(r) => r.take_said(),
        };
        for Said {
            speaker,
            level,
            text,
        } in said
        {
            let module = match speaker {
                Speaker::Replication => &REPLICATION,
                Speaker::Relay => &RELAY,
                Speaker::Client => &OVSDB_CS,
                Speaker::Error => &OVSDB_ERROR,
            };
            let level = match level {
                Level::Debug => vlog::Level::Dbg,
                Level::Info => vlog::Level::Info,
                Level::Warning => vlog::Level::Warn,
                Level::Error => vlog::Level::Err,
            };
            if module.enabled(level) {
                vlog::write(module, level, format_args!("{text}"));
            }
        }
    }

    pub fn wait(&self, poller: &mut Poller) {
        self.session.wait(poller);
        self.session.recv_wait(poller);
        if let Machine::Relay(r) = &self.machine
            && let Some(at) = r.deadline()
        {
            poller.wait_until(at);
        }
    }
}

/// Puts targets in random order, so that not everybody asks the same server.
fn shuffle(targets: &mut [String]) {
    for i in (1..targets.len()).rev() {
        let random = ferrovs_ovsdb::uuid::random().as_u128();
        targets.swap(i, (random % (i as u128 + 1)) as usize);
    }
}
