//! The life of a daemon: detaching, the pidfile, the monitor, giving up root.
//!
//! [`Daemon::daemonize_start`] forks while the process has one thread; what returns from it is the
//! process that will serve. [`Daemon::daemonize_complete`] is called when it is ready: only then
//! does the command that started it return, with status 0. A daemon that fails before ends with
//! its own status and messages, which the starting command passes on.
//!
//! The pidfile is locked as long as the daemon lives, so a pidfile that nobody locks is stale,
//! however the daemon ended.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ferrovs_sys::crash::{self, Reports};
use ferrovs_sys::file;
use ferrovs_sys::lockfile::{self, LockError};
use ferrovs_sys::process::{self, Exit, Fork, User};
use ferrovs_sys::signal;

use crate::options::{Arg, Found, Opt};
use crate::vlog::modules::{BACKTRACE, DAEMON_UNIX, VLOG};
use crate::{clock, dirs, fatal, fatal_signal, vlog};

/// The daemon options.
pub const OPTIONS: &[Opt] = &[
    Opt::long("detach", Arg::None),
    Opt::long("no-self-confinement", Arg::None),
    Opt::long("no-chdir", Arg::None),
    Opt::long("pidfile", Arg::Optional),
    Opt::long("overwrite-pidfile", Arg::None),
    Opt::long("monitor", Arg::None),
    Opt::long("user", Arg::Required),
];

/// What a daemon that gives up root must still be able to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Access {
    /// Manage network devices and raw sockets.
    pub datapath: bool,
    /// Access hardware directly.
    pub hardware: bool,
}

/// Unset by `--no-self-confinement`.
static CONFINED: AtomicBool = AtomicBool::new(true);

/// Whether what others configure may name only files of Open vSwitch's own directories.
pub fn is_confined() -> bool {
    CONFINED.load(Relaxed)
}

/// How the program was asked to live.
#[derive(Debug, Default)]
pub struct Daemon {
    detach: bool,
    no_chdir: bool,
    keep_stdout: bool,
    keep_stderr: bool,
    pidfile: Option<PathBuf>,
    overwrite_pidfile: bool,
    monitor: bool,
    user: Option<(User, u32)>,
    /// Tells the process that waits for the start that it has succeeded.
    notify: Option<OwnedFd>,
    /// The locked pidfile; closing it would unlock it.
    locked: Option<File>,
}

/// Prints the part of a `--help` text that tells of the daemon options.
pub fn usage() {
    println!(
        "\n\
Daemon options:\n\
\x20 --detach                run in background as daemon\n\
\x20 --monitor               creates a process to monitor this daemon\n\
\x20 --user=username[:group] changes the effective daemon user:group\n\
\x20 --no-chdir              do not chdir to '/'\n\
\x20 --pidfile[=FILE]        create pidfile (default: {}/{}.pid)\n\
\x20 --overwrite-pidfile     with --pidfile, start even if already running",
        dirs::rundir().display(),
        dirs::program_name()
    );
}

impl Daemon {
    /// A program that stays in the foreground, without a pidfile.
    pub fn new() -> Daemon {
        Daemon::default()
    }

    /// What is printed goes on to where it went, also in the background.
    pub fn keep_stdout(&mut self) {
        self.keep_stdout = true;
    }

    /// The same for standard error.
    pub fn keep_stderr(&mut self) {
        self.keep_stderr = true;
    }

    /// Takes an option of the [`OPTIONS`] group; false if it is of another group.
    pub fn handle(&mut self, found: &Found) -> bool {
        match found.opt.long {
            "detach" => self.detach = true,
            "no-self-confinement" => CONFINED.store(false, Relaxed),
            "no-chdir" => self.no_chdir = true,
            "pidfile" => {
                let name = found.value.clone();
                let name = name.unwrap_or_else(|| format!("{}.pid", dirs::program_name()));
                self.pidfile = Some(dirs::rundir().join(name));
            }
            "overwrite-pidfile" => self.overwrite_pidfile = true,
            "monitor" => self.monitor = true,
            "user" => self.set_user(found.required()),
            _ => return false,
        }
        true
    }

    /// Whether it will run in the background.
    pub fn detaching(&self) -> bool {
        self.detach
    }

    fn set_user(&mut self, spec: &str) {
        let (name, group) = match spec.split_once(':') {
            Some((u, g)) => (u.trim(), Some(g.trim())),
            None => (spec.trim(), None),
        };
        let user = if name.is_empty() {
            process::user_by_id(process::effective_ids().0)
        } else {
            process::user_by_name(name).ok().flatten()
        };
        let Some(user) = user else {
            die(format_args!(
                "{}: user {name} not found, aborting.",
                self.pidfile_text()
            ));
        };
        let gid = match group {
            None => user.gid,
            Some("") => user.gid,
            Some(g) => match process::group_by_name(g) {
                Ok(Some(gid)) => gid,
                _ => die(format_args!(
                    "{}: group {g} not found, aborting.",
                    self.pidfile_text()
                )),
            },
        };
        let (uid, _) = process::effective_ids();
        if uid != 0 && uid != user.uid {
            die(format_args!(
                "not running as root, cannot change to user {}, aborting",
                user.name
            ));
        }
        self.user = Some((user, gid));
    }

    fn pidfile_text(&self) -> String {
        // Without a pidfile the C library prints a null pointer here, and scripts know the line.
        self.pidfile
            .as_ref()
            .map_or_else(|| "(null)".to_string(), |p| p.display().to_string())
    }

    /// Changes user, goes into the background, starts the monitor and writes the pidfile, as asked.
    /// Returns in the process that serves. Everything after the first step, the monitor too, is done
    /// without root's powers.
    pub fn daemonize_start(&mut self, access: Access) {
        abort_on_panic();
        self.change_user(access);
        if self.detach {
            match fork_and_wait(&mut self.notify) {
                Fork::Parent(_) => process::exit_immediately(0),
                Fork::Child => {
                    let _ = process::setsid();
                }
            }
        }
        if self.monitor {
            let waiting = self.notify.take();
            let Ok(reports) = Reports::new() else {
                fatal("could not create a pipe");
            };
            if let Fork::Parent(pid) = fork_and_wait(&mut self.notify) {
                tell_started(waiting);
                if self.detach {
                    self.close_standard_fds();
                }
                self.watch(pid, &reports);
            }
            reports.send_from_here();
        }
        fatal_signal::init();
        if let Some(path) = self.pidfile.clone() {
            self.make_pidfile(&path);
        }
        process::ensure_standard_fds();
    }

    fn change_user(&self, access: Access) {
        let Some((user, gid)) = &self.user else {
            return;
        };
        if vlog::change_owner(user.uid, *gid).is_err() {
            vlog::warn!(DAEMON_UNIX, "failed to change the owner of the log file");
        }
        let mut keep = vec![14 /* IPC_LOCK */, 10 /* NET_BIND_SERVICE */];
        if access.datapath {
            keep.extend([12 /* NET_ADMIN */, 13 /* NET_RAW */]);
        }
        if access.hardware {
            keep.push(17 /* SYS_RAWIO */);
        }
        if let Err(e) = process::become_user(user, *gid, &keep) {
            let text = crate::text::errno(&e);
            die(format_args!(
                "could not change to user {}: {text}, aborting",
                user.name
            ));
        }
    }

    /// Tells whoever waits that the daemon is ready.
    pub fn daemonize_complete(&mut self) {
        tell_started(self.notify.take());
        if self.detach {
            if !self.no_chdir {
                let _ = std::env::set_current_dir("/");
            }
            self.close_standard_fds();
            self.detach = false;
        }
    }

    /// Nothing is logged to the console any more, even if other things are still said there.
    fn close_standard_fds(&self) {
        let _ = process::close_standard_fds(self.keep_stdout, self.keep_stderr);
        vlog::set_level(None, Some(vlog::Destination::Console), vlog::Level::Off);
    }

    fn make_pidfile(&mut self, path: &Path) {
        if !self.overwrite_pidfile {
            check_already_running(path);
        }
        let me = process::pid();
        let tmp = PathBuf::from(format!("{}.tmp", path.display()));
        let fail = |what: &str, e: &io::Error| -> ! {
            die(format_args!(
                "{}: {what} failed ({})",
                tmp.display(),
                crate::text::errno(e)
            ))
        };
        let mut file = match file::open_plain(&tmp, 0o666) {
            Ok(f) => f,
            Err(e) => fail("create", &e),
        };
        match lockfile::lock(&file) {
            Ok(()) => {}
            Err(LockError::Io(e)) => fail("fcntl(F_SETLK)", &e),
            Err(_) => fail("fcntl(F_SETLK)", &io::Error::from_raw_os_error(11)),
        }
        // Another that starts may have renamed the file before it was locked here: then it is that one's.
        if inode(&tmp) != file_inode(&file) {
            fail("fcntl(F_SETLK)", &io::Error::from_raw_os_error(11));
        }
        fatal_signal::unlink_on_exit(&tmp);
        if let Err(e) = file.set_len(0) {
            fail("truncate", &e);
        }
        if let Err(e) = writeln!(file, "{me}") {
            fail("write", &e);
        }
        fatal_signal::unlink_on_exit(path);
        if let Err(e) = std::fs::rename(&tmp, path) {
            die(format_args!(
                "failed to rename \"{}\" to \"{}\" ({})",
                tmp.display(),
                path.display(),
                crate::text::errno(&e)
            ));
        }
        fatal_signal::keep(&tmp);
        *OWN.lock().unwrap_or_else(PoisonError::into_inner) = file_inode(&file);
        self.locked = Some(file);
    }

    /// The monitor: waits for the daemon to die, and starts it again if it crashed. Returns only
    /// in a new daemon process.
    fn watch(&mut self, mut pid: i32, reports: &Reports) {
        vlog::set_subprogram("monitor");
        let mut crashes = 0;
        let mut status = "healthy".to_string();
        let mut last_restart = None;
        loop {
            if vlog::file_is_open() {
                vlog::info!(VLOG, "closing log file");
            }
            vlog::close_log_file();
            process::set_title(&format!(
                "{}: monitoring pid {pid} ({status})",
                dirs::program_name()
            ));
            let end = process::wait_child(pid, || false);
            let _ = vlog::reopen_log_file();
            let exit = match end {
                Ok(e) => e,
                Err(e) => {
                    vlog::err!(DAEMON_UNIX, "waitpid failed ({})", crate::text::errno(&e));
                    std::process::exit(1);
                }
            };
            let text = format!("pid {pid} died, {}", describe_exit(exit));
            if !should_restart(exit) {
                vlog::info!(DAEMON_UNIX, "{text}, exiting");
                std::process::exit(0);
            }
            if let Some(frames) = reports.receive() {
                vlog::warn!(BACKTRACE, "{}\n{frames}", crash::TITLE);
            }
            crashes += 1;
            status = format!("{crashes} crashes: {text}");
            if let Exit::Signal { core: true, .. } = exit {
                // One core dump is enough: more would only fill the disk.
                process::forbid_core_dumps();
            }
            // At most one restart in ten seconds.
            if let Some(last) = last_restart {
                let since = clock::real_now().saturating_duration_since(last);
                if since < Duration::from_secs(10) {
                    vlog::warn!(
                        DAEMON_UNIX,
                        "{status}, waiting until 10 seconds since last restart"
                    );
                    std::thread::sleep(Duration::from_secs(10).saturating_sub(since));
                }
            }
            last_restart = Some(clock::real_now());
            vlog::err!(DAEMON_UNIX, "{status}, restarting");
            match fork_and_wait(&mut self.notify) {
                Fork::Parent(p) => pid = p,
                Fork::Child => {
                    process::restore_title();
                    vlog::set_subprogram(dirs::program_name());
                    return;
                }
            }
        }
    }
}

/// Makes a panic of any thread the end of the process, by SIGABRT: half a daemon helps nobody, and a
/// monitor starts it again. The log says what happened.
fn abort_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("unknown cause");
        let at = info
            .location()
            .map(|l| format!(" at {}:{}", l.file(), l.line()));
        let at = at.unwrap_or_default();
        if vlog::is_free() {
            vlog::emer!(DAEMON_UNIX, "internal error{at}: {text}");
        } else {
            eprintln!("{}: internal error{at}: {text}", dirs::program_name());
        }
        std::process::abort();
    }));
}

/// A failure to start, on the console and in the log.
fn die(message: std::fmt::Arguments<'_>) -> ! {
    if vlog::file_is_open() {
        vlog::write_to_file(&DAEMON_UNIX, vlog::Level::Emer, message);
    }
    fatal(message)
}

/// Forks; the parent returns when the child says that it is ready, and exits as the child did if
/// it dies before.
fn fork_and_wait(notify: &mut Option<OwnedFd>) -> Fork {
    let pipe = process::pipe();
    let (Ok((read, write)), fork) = (pipe, process::fork()) else {
        fatal("could not create a pipe");
    };
    match fork {
        Err(e) => fatal(format_args!("fork failed ({})", crate::text::errno(&e))),
        Ok(Fork::Child) => {
            drop(read);
            *notify = Some(write);
            fatal_signal::forget_all();
            Fork::Child
        }
        Ok(Fork::Parent(pid)) => {
            drop(write);
            let mut byte = [0u8; 1];
            if matches!(File::from(read).read(&mut byte), Ok(1)) {
                return Fork::Parent(pid);
            }
            match process::wait_child(pid, || false) {
                Ok(Exit::Code(code)) if code != 0 => process::exit_immediately(code),
                Ok(exit) => {
                    let text = describe_exit(exit);
                    vlog::err!(
                        DAEMON_UNIX,
                        "fork child died before signaling startup ({text})"
                    );
                    process::exit_immediately(1)
                }
                Err(_) => process::exit_immediately(1),
            }
        }
    }
}

fn tell_started(notify: Option<OwnedFd>) {
    if let Some(fd) = notify {
        let _ = File::from(fd).write_all(&[0]);
    }
}

fn should_restart(exit: Exit) -> bool {
    // The signals that tell of a bug in the program; others come from people.
    const CRASHES: [i32; 9] = [
        6,  // SIGABRT
        14, // SIGALRM
        7,  // SIGBUS
        8,  // SIGFPE
        4,  // SIGILL
        13, // SIGPIPE
        11, // SIGSEGV
        24, // SIGXCPU
        25, // SIGXFSZ
    ];
    matches!(exit, Exit::Signal { signal, .. } if CRASHES.contains(&signal))
}

/// How a process ended, as Open vSwitch tells it.
pub fn describe_exit(exit: Exit) -> String {
    match exit {
        Exit::Code(c) => format!("exit status {c}"),
        Exit::Signal { signal: s, core } => {
            let core = if core { ", core dumped" } else { "" };
            format!("killed ({}){core}", signal::describe(s))
        }
    }
}

/// This process's pidfile. Opening it again, and closing that, would drop the lock on it: the kernel
/// keeps such locks per process and file.
static OWN: Mutex<Option<(u64, u64)>> = Mutex::new(None);

fn inode(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

fn file_inode(file: &File) -> Option<(u64, u64)> {
    file.metadata().ok().map(|m| (m.dev(), m.ino()))
}

fn is_own(path: &Path) -> bool {
    let own = *OWN.lock().unwrap_or_else(PoisonError::into_inner);
    own.is_some() && inode(path) == own
}

/// The process id that a pidfile holds, whether or not its owner lives.
pub fn pidfile_contents(path: &Path) -> Option<i32> {
    if is_own(path) {
        return Some(process::pid());
    }
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The process id in a pidfile whose owner lives. The error is `ESRCH` for a stale one.
pub fn read_pidfile(path: &Path) -> io::Result<i32> {
    if is_own(path) {
        return Ok(process::pid());
    }
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(f) => f,
        Err(e) => {
            vlog::warn!(
                DAEMON_UNIX,
                "{}: open: {}",
                path.display(),
                crate::text::errno(&e)
            );
            return Err(e);
        }
    };
    let stale = || io::Error::from_raw_os_error(3);
    let holder = lockfile::holder(&file)?.ok_or_else(stale)?;
    let mut text = String::new();
    (&mut file).take(64).read_to_string(&mut text)?;
    let written: i32 = match text.trim().parse() {
        Ok(n) => n,
        Err(_) => {
            vlog::warn!(
                DAEMON_UNIX,
                "{}: read: unexpected end of file",
                path.display()
            );
            return Err(io::Error::from_raw_os_error(22));
        }
    };
    // In another pid namespace the kernel tells 0 or another number: the file is right then.
    if holder != written && holder != 0 {
        vlog::warn!(
            DAEMON_UNIX,
            "{}: stale pidfile for pid {written} being deleted by pid {holder}",
            path.display()
        );
        return Err(stale());
    }
    Ok(written)
}

fn check_already_running(path: &Path) {
    let fail = |e: &io::Error| -> ! {
        die(format_args!(
            "{}: pidfile check failed ({}), aborting",
            path.display(),
            crate::text::errno(e)
        ))
    };
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return,
        Err(e) => {
            let text = crate::text::errno(&e);
            vlog::warn!(DAEMON_UNIX, "{}: open: {text}", path.display());
            fail(&e)
        }
    };
    match lockfile::holder(&file) {
        Ok(None) => {}
        Ok(Some(holder)) => {
            let mut text = String::new();
            let _ = (&mut file).take(64).read_to_string(&mut text);
            let pid = text.trim().parse().unwrap_or(holder);
            die(format_args!(
                "{}: already running as pid {pid}, aborting",
                path.display()
            ));
        }
        Err(e) => fail(&e),
    }
}
