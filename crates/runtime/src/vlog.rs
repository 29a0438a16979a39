//! Open vSwitch's logging.
//!
//! A message has a module and a level, and goes to each of three destinations (console, syslog,
//! file) whose level for that module admits it, formatted by that destination's pattern. Levels,
//! patterns and the log file change at run time through `vlog/*` commands. Repeated messages are
//! held back by a [`RateLimit`] beside the call.
//!
//! Use: `vlog::info!(BRIDGE, "bridge {name}: added interface {iface} on port {port}")`, with the
//! modules from [`modules`]. A message that no destination wants costs one relaxed load.

mod macros;
pub mod modules;
mod pattern;
mod rate_limit;
mod syslog;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::dirs;
use modules::VLOG;

pub use crate::{__vlog_dbg as dbg, __vlog_emer as emer, __vlog_err as err};
pub use crate::{__vlog_dbg_rl as dbg_rl, __vlog_err_rl as err_rl, __vlog_info_rl as info_rl};
pub use crate::{__vlog_info as info, __vlog_warn as warn, __vlog_warn_rl as warn_rl};
pub use rate_limit::RateLimit;

/// How grave a message is; a destination's level admits that and everything graver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Admits nothing.
    Off,
    /// A major failure forced a process to abort.
    Emer,
    /// A high-level operation or a subsystem failed.
    Err,
    /// A low-level operation failed, but higher levels may recover.
    Warn,
    /// May be useful in retrospect.
    Info,
    /// Only for those who know the code.
    Dbg,
}

impl Level {
    const ALL: [Level; 6] = [
        Level::Off,
        Level::Emer,
        Level::Err,
        Level::Warn,
        Level::Info,
        Level::Dbg,
    ];

    /// As log lines write it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Off => "OFF",
            Level::Emer => "EMER",
            Level::Err => "ERR",
            Level::Warn => "WARN",
            Level::Info => "INFO",
            Level::Dbg => "DBG",
        }
    }

    fn from_name(name: &str) -> Option<Level> {
        Level::ALL
            .into_iter()
            .find(|l| l.name().eq_ignore_ascii_case(name))
    }

    fn from_u8(n: u8) -> Level {
        Level::ALL.get(n as usize).copied().unwrap_or(Level::Dbg)
    }

    /// The severity number of RFC 5424.
    fn syslog(self) -> u8 {
        match self {
            Level::Off | Level::Emer => 1,
            Level::Err => 3,
            Level::Warn => 4,
            Level::Info => 5,
            Level::Dbg => 7,
        }
    }
}

/// Where messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// The system log.
    Syslog,
    /// Standard error.
    Console,
    /// The log file, when there is one.
    File,
}

impl Destination {
    pub(crate) const ALL: [Destination; 3] =
        [Destination::Syslog, Destination::Console, Destination::File];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Destination::Syslog => "syslog",
            Destination::Console => "console",
            Destination::File => "file",
        }
    }

    fn from_name(name: &str) -> Option<Destination> {
        Destination::ALL
            .into_iter()
            .find(|d| d.name().eq_ignore_ascii_case(name))
    }
}

/// A part of the program whose messages share their levels.
#[derive(Debug)]
pub struct Module {
    name: &'static str,
    programs: u8,
    levels: [AtomicU8; 3],
    /// The most talkative of `levels`.
    widest: AtomicU8,
    honor_rate_limits: AtomicBool,
}

impl Module {
    pub(crate) const fn new(name: &'static str, programs: u8) -> Module {
        const INFO: u8 = Level::Info as u8;
        Module {
            name,
            programs,
            levels: [
                AtomicU8::new(INFO),
                AtomicU8::new(INFO),
                AtomicU8::new(INFO),
            ],
            widest: AtomicU8::new(INFO),
            honor_rate_limits: AtomicBool::new(true),
        }
    }

    /// The module's name in log lines.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether a message of `level` would go anywhere.
    #[inline]
    pub fn enabled(&self, level: Level) -> bool {
        level as u8 <= self.widest.load(Relaxed)
    }

    pub(crate) fn level(&self, d: Destination) -> Level {
        Level::from_u8(self.levels[d as usize].load(Relaxed))
    }

    fn set_level(&self, d: Destination, level: Level) {
        self.levels[d as usize].store(level as u8, Relaxed);
        self.refresh();
    }

    /// Without a log file its level admits nothing: messages that go nowhere are not numbered.
    fn refresh(&self) {
        let open = FILE_OPEN.load(Relaxed);
        let counts = |d: &Destination| open || *d != Destination::File;
        let levels = Destination::ALL
            .into_iter()
            .filter(counts)
            .map(|d| self.level(d) as u8);
        self.widest.store(levels.max().unwrap_or(0), Relaxed);
    }

    pub(crate) fn honors_rate_limits(&self) -> bool {
        self.honor_rate_limits.load(Relaxed)
    }

    pub(crate) fn set_honor_rate_limits(&self, honor: bool) {
        self.honor_rate_limits.store(honor, Relaxed);
    }
}

/// The modules that the running program has, by name.
pub(crate) fn program_modules() -> impl Iterator<Item = &'static Module> {
    let mask = match dirs::program_name() {
        "ovs-vswitchd" => modules::S,
        "ovsdb-server" => modules::D,
        _ => modules::T,
    };
    modules::ALL
        .iter()
        .copied()
        .filter(move |m| m.programs & mask != 0)
}

pub(crate) fn module_by_name(name: &str) -> Option<&'static Module> {
    let dashes = name.replace('-', "_");
    program_modules().find(|m| m.name.eq_ignore_ascii_case(&dashes))
}

struct State {
    patterns: [String; 3],
    /// None until one is chosen: then each destination has its own.
    facility: Option<u8>,
    file: Option<File>,
    file_path: Option<PathBuf>,
    syslog: syslog::Syslog,
    target: Option<syslog::Syslog>,
}

impl State {
    /// A crash writes to the file without asking here: it must not meet a descriptor that is closed.
    fn set_file(&mut self, file: Option<File>) {
        ferrovs_sys::crash::set_log_file(file.as_ref().map(File::as_fd));
        self.file = file;
    }
}

/// Whether a message can be written now: false inside the writing of another.
pub(crate) fn is_free() -> bool {
    !matches!(STATE.try_lock(), Err(std::sync::TryLockError::WouldBlock))
}

/// Whether there is a log file.
static FILE_OPEN: AtomicBool = AtomicBool::new(false);

fn set_file_open(open: bool) {
    FILE_OPEN.store(open, Relaxed);
    modules::ALL.iter().for_each(|m| m.refresh());
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

fn state() -> StateGuard {
    let mut guard = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    guard.get_or_insert_with(|| State {
        patterns: [
            "ovs|%05N|%c%T|%p|%m".to_string(),
            "%D{%Y-%m-%dT%H:%M:%SZ}|%05N|%c%T|%p|%m".to_string(),
            "%D{%Y-%m-%dT%H:%M:%S.###Z}|%05N|%c%T|%p|%m".to_string(),
        ],
        facility: None,
        file: None,
        file_path: None,
        syslog: syslog::Syslog::from_environment(),
        target: None,
    });
    StateGuard(guard)
}

struct StateGuard(MutexGuard<'static, Option<State>>);

impl std::ops::Deref for StateGuard {
    type Target = State;
    fn deref(&self) -> &State {
        self.0.as_ref().expect("filled when locked")
    }
}

impl std::ops::DerefMut for StateGuard {
    fn deref_mut(&mut self) -> &mut State {
        self.0.as_mut().expect("filled when locked")
    }
}

/// Number of the last message of the main thread, and of threads that have no name of their own.
static SERIAL: AtomicU32 = AtomicU32::new(0);

thread_local! {
    static OWN_SERIAL: Cell<Option<u32>> = const { Cell::new(None) };
    static SUBPROGRAM: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Names the calling thread in log lines (`module(name)|...`) and for the system.
pub fn set_thread_name(name: &str) {
    set_subprogram(name);
    OWN_SERIAL.set(Some(0));
    ferrovs_sys::process::set_thread_name(name);
}

/// Names the calling thread or process in log lines only; "" is the main one.
pub fn set_subprogram(name: &str) {
    SUBPROGRAM.with(|s| *s.borrow_mut() = name.to_string());
}

/// Writes a message to every destination that admits it. The macros of this module call this.
pub fn write(module: &Module, level: Level, text: fmt::Arguments<'_>) {
    let text = text.to_string();
    let own = OWN_SERIAL.try_with(|s| {
        s.set(s.get().map(|n| n.wrapping_add(1)));
        s.get()
    });
    let serial = match own {
        Ok(Some(own)) => own,
        _ => SERIAL.fetch_add(1, Relaxed).wrapping_add(1),
    };
    let subprogram = SUBPROGRAM
        .try_with(|s| s.borrow().clone())
        .unwrap_or_default();
    let mut state = state();
    let message = pattern::Message {
        module: module.name,
        level,
        text: &text,
        serial,
        subprogram: &subprogram,
        facility: state.facility.unwrap_or(syslog::LOCAL0),
    };
    let admits = |d| level <= module.level(d);
    if admits(Destination::Console) {
        let mut line = message.format(&state.patterns[Destination::Console as usize]);
        line.push('\n');
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
    if admits(Destination::Syslog) {
        let pattern = state.patterns[Destination::Syslog as usize].clone();
        let envelope = pattern::Message {
            facility: state.facility.unwrap_or(syslog::DAEMON),
            ..message
        };
        for line in message.format(&pattern).lines() {
            state.syslog.send(&envelope, line);
            if let Some(target) = &mut state.target {
                target.send(&envelope, line);
            }
        }
    }
    if admits(Destination::File)
        && let Some(file) = &state.file
    {
        let mut line = message.format(&state.patterns[Destination::File as usize]);
        line.push('\n');
        let mut file: &File = file;
        let _ = file.write_all(line.as_bytes());
    }
}

/// Sets the level of one module, or all, at one destination, or all.
pub fn set_level(module: Option<&Module>, destination: Option<Destination>, level: Level) {
    for m in modules::ALL {
        if module.is_some_and(|only| !std::ptr::eq(only, *m)) {
            continue;
        }
        for d in Destination::ALL {
            if destination.is_none_or(|only| only == d) {
                m.set_level(d, level);
            }
        }
    }
}

/// Applies a log specification: words of a module, a destination and a level in any order, or
/// `PATTERN:destination:pattern`, or `FACILITY:facility`. Errors are Open vSwitch's texts.
pub fn set_verbosity(spec: &str) -> Result<(), String> {
    let mut words = spec.split([' ', ',', ':']).filter(|w| !w.is_empty());
    let first = words.next().unwrap_or("");
    if first.eq_ignore_ascii_case("PATTERN") {
        let name = words.next().ok_or("missing destination")?;
        let only = match Destination::from_name(name) {
            Some(d) => Some(d),
            None if name.eq_ignore_ascii_case("ANY") => None,
            None => return Err(format!("unknown destination \"{name}\"")),
        };
        // The pattern is everything after the second separator, separators included.
        let mut parts = spec
            .trim_start_matches([' ', ',', ':'])
            .splitn(3, [' ', ',', ':']);
        let pattern = parts
            .nth(2)
            .unwrap_or("")
            .trim_start_matches([' ', ',', ':']);
        let mut state = state();
        for d in Destination::ALL {
            if only.is_none_or(|o| o == d) {
                state.patterns[d as usize] = pattern.to_string();
            }
        }
        return Ok(());
    }
    if first.eq_ignore_ascii_case("FACILITY") {
        let facility = words
            .next()
            .and_then(syslog::facility_by_name)
            .ok_or("invalid facility")?;
        state().facility = Some(facility);
        return Ok(());
    }
    let (mut module, mut destination, mut level) = (None, None, None);
    for word in spec.split([' ', ',', ':']).filter(|w| !w.is_empty()) {
        if word.eq_ignore_ascii_case("ANY") {
            continue;
        } else if let Some(d) = Destination::from_name(word) {
            if destination.replace(d).is_some() {
                return Err("cannot specify multiple destinations".to_string());
            }
        } else if let Some(l) = Level::from_name(word) {
            if level.replace(l).is_some() {
                return Err("cannot specify multiple levels".to_string());
            }
        } else if let Some(m) = module_by_name(word) {
            if module.replace(m).is_some() {
                return Err("cannot specify multiple modules".to_string());
            }
        } else {
            return Err(format!("no destination, level, or module \"{word}\""));
        }
    }
    set_level(module, destination, level.unwrap_or(Level::Dbg));
    Ok(())
}

/// The pattern of a destination's lines.
pub(crate) fn pattern(destination: Destination) -> String {
    state().patterns[destination as usize].clone()
}

/// Whether messages were ever told to go to a file.
pub(crate) fn has_log_file() -> bool {
    state().file_path.is_some()
}

/// The log file that `--log-file` without a name means.
pub fn default_log_file() -> PathBuf {
    dirs::logdir().join(format!("{}.log", dirs::program_name()))
}

/// Logs to `path` (default: the program's file in the log directory) from now on.
pub fn set_log_file(path: Option<&Path>) -> std::io::Result<()> {
    let path = path.map_or_else(default_log_file, Path::to_path_buf);
    let file = match ferrovs_sys::file::open_append(&path, 0o660) {
        Ok(f) => f,
        Err(e) => {
            let text = crate::text::errno(&e);
            warn!(
                VLOG,
                "failed to open {} for logging: {}",
                path.display(),
                text
            );
            return Err(e);
        }
    };
    {
        let mut state = state();
        if let Some(old) = &state.file {
            use std::os::unix::fs::MetadataExt;
            let id = |f: &File| f.metadata().map(|m| (m.dev(), m.ino())).ok();
            if id(old) == id(&file) {
                return Ok(());
            }
            drop(state);
            info!(VLOG, "closing log file");
            state = self::state();
        }
        state.set_file(Some(file));
        state.file_path = Some(path.clone());
    }
    set_file_open(true);
    info!(VLOG, "opened log file {}", path.display());
    Ok(())
}

/// Opens the log file again, under the name that it had. Without a log file does nothing.
pub fn reopen_log_file() -> std::io::Result<()> {
    let path = state().file_path.clone();
    match path {
        Some(p) => set_log_file(Some(&p)),
        None => Ok(()),
    }
}

/// Closes the log file; [`reopen_log_file`] opens it again.
pub fn close_log_file() {
    state().set_file(None);
    set_file_open(false);
}

/// Whether there is a log file.
pub(crate) fn file_is_open() -> bool {
    state().file.is_some()
}

/// Writes a message to the log file only, for one that goes to the console in another form.
pub(crate) fn write_to_file(module: &Module, level: Level, text: fmt::Arguments<'_>) {
    let console = module.level(Destination::Console);
    module.set_level(Destination::Console, Level::Off);
    write(module, level, text);
    module.set_level(Destination::Console, console);
}

/// Gives the log file to another user, for a daemon that is about to become that user.
pub fn change_owner(uid: u32, gid: u32) -> std::io::Result<()> {
    match &state().file {
        Some(file) => ferrovs_sys::file::give(file, uid, gid),
        None => Ok(()),
    }
}

/// Chooses how messages reach the system log: `libc`, `unix:FILE`, `udp:IP:PORT` or `null`.
pub fn set_syslog_method(method: &str) -> Result<(), String> {
    let syslog = syslog::Syslog::from_method(method)?;
    state().syslog = syslog;
    Ok(())
}

/// Also sends what goes to the system log to `HOST:PORT` by UDP. A bad target is logged.
pub fn set_syslog_target(target: &str) {
    match syslog::Syslog::target(target) {
        Ok(s) => state().target = Some(s),
        Err(e) => err!(modules::SOCKET_UTIL, "{e}"),
    }
    warn!(
        VLOG,
        "--syslog-target flag is deprecated, use --syslog-method instead"
    );
}

/// Prints the part of a `--help` text that tells of the logging options.
pub fn usage() {
    println!(
        "\n\
Logging options:\n\
\x20 -vSPEC, --verbose=SPEC   set logging levels\n\
\x20 -v, --verbose            set maximum verbosity level\n\
\x20 --log-file[=FILE]        enable logging to specified FILE\n\
\x20                          (default: {})\n\
\x20 --syslog-method=(libc|unix:file|udp:ip:port)\n\
\x20                          specify how to send messages to syslog daemon\n\
\x20 --syslog-target=HOST:PORT  also send syslog msgs to HOST:PORT via UDP",
        default_log_file().display()
    );
}
