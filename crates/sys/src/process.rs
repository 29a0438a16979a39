//! The process itself: fork, sessions, users, memory locking, resource usage.
//!
//! [`fork`] must be called while the process has a single thread (the daemons fork before they
//! start any); it checks that. Everything else is a thin owned view of one system call.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// Which side of a fork this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    /// The parent, with the process id of the child.
    Parent(i32),
    /// The child.
    Child,
}

/// How a child process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this status.
    Code(i32),
    /// This signal killed it; `core` tells whether it left a core dump.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether a core was dumped.
        core: bool,
    },
}

fn check(rc: libc::c_int) -> io::Result<()> {
    if rc == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Number of threads of this process, as the kernel counts them.
fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, |d| d.count())
}

/// Splits this process in two. Fails with `InvalidInput` if it has more than one thread.
pub fn fork() -> io::Result<Fork> {
    if thread_count() > 1 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "fork with threads running",
        ));
    }
    // SAFETY: the process has one thread, the caller, so no lock can be held by a thread that does
    // not exist in the child; all state that the child sees is consistent.
    let pid = unsafe { libc::fork() };
    check(pid)?;
    Ok(if pid == 0 {
        Fork::Child
    } else {
        Fork::Parent(pid)
    })
}

/// Waits for child `pid` to end, restarting after interruptions by signals unless `interrupted`
/// says to stop, in which case the error is `Interrupted`.
pub fn wait_child(pid: i32, mut interrupted: impl FnMut() -> bool) -> io::Result<Exit> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is a valid place for the result.
        let rc = unsafe { libc::waitpid(pid, &mut status, 0) };
        if rc == pid {
            return Ok(if libc::WIFEXITED(status) {
                Exit::Code(libc::WEXITSTATUS(status))
            } else {
                Exit::Signal {
                    signal: libc::WTERMSIG(status),
                    core: libc::WCOREDUMP(status),
                }
            });
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted || interrupted() {
            return Err(error);
        }
    }
}

/// Becomes the leader of a new session, without a controlling terminal.
pub fn setsid() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

/// Points standard input, output and error at `/dev/null`, but for those that are kept.
pub fn close_standard_fds(keep_stdout: bool, keep_stderr: bool) -> io::Result<()> {
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    if !keep_stdout {
        rustix::stdio::dup2_stdout(&null)?;
    }
    if !keep_stderr {
        rustix::stdio::dup2_stderr(&null)?;
    }
    Ok(())
}

/// Opens `/dev/null` on each of the standard descriptors that is closed, so that no later file
/// lands on one of them.
pub fn ensure_standard_fds() {
    for _ in 0..3 {
        match std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
        {
            Ok(f) => {
                use std::os::fd::{AsRawFd, IntoRawFd};
                if f.as_raw_fd() <= 2 {
                    // Kept open on purpose, for the life of the process.
                    let _ = f.into_raw_fd();
                } else {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// A pipe whose ends close on exec: (read end, write end).
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// Makes reads and writes on `fd` return `WouldBlock` instead of sleeping.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    rustix::io::ioctl_fionbio(fd, true)?;
    Ok(())
}

/// Keeps all memory of the process, present and future, in RAM once it is used: memory that was
/// reserved and never touched, such as deep stacks, costs nothing.
pub fn mlockall() -> io::Result<()> {
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE;
    // SAFETY: no pointers involved.
    let on_fault = check(unsafe { libc::mlockall(flags | libc::MCL_ONFAULT) });
    match on_fault {
        // A kernel that does not know the last flag.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
            // SAFETY: as above.
            check(unsafe { libc::mlockall(flags) })
        }
        result => result,
    }
}

/// Names the calling thread for tools such as ps and top (at most 15 bytes are kept).
pub fn set_thread_name(name: &str) {
    let name: Vec<u8> = name.bytes().filter(|&b| b != 0).take(15).collect();
    if let Ok(name) = CString::new(name) {
        let _ = rustix::thread::set_name(&name);
    }
}

/// The kernel's id of the calling thread.
pub fn thread_id() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// The id of this process.
pub fn pid() -> i32 {
    std::process::id() as i32
}

/// Whether process `pid` exists.
pub fn exists(pid: i32) -> bool {
    // SAFETY: signal 0 only checks; nothing is delivered.
    let rc = unsafe { libc::kill(pid, 0) };
    rc == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

/// The name of this host.
pub fn hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// What this process has used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in user mode.
    pub user: Duration,
    /// CPU time in the kernel.
    pub system: Duration,
    /// Page faults without and with I/O.
    pub minor_faults: i64,
    /// Page faults with I/O.
    pub major_faults: i64,
    /// Blocks read from disk.
    pub disk_reads: i64,
    /// Blocks written to disk.
    pub disk_writes: i64,
    /// Context switches because the process waited.
    pub voluntary_switches: i64,
    /// Context switches because its time was up.
    pub involuntary_switches: i64,
    /// Largest resident set so far, in kilobytes.
    pub max_rss_kb: i64,
}

/// What the calling thread has used so far.
pub fn thread_usage() -> Usage {
    usage(libc::RUSAGE_THREAD)
}

/// What the whole process has used so far.
pub fn process_usage() -> Usage {
    usage(libc::RUSAGE_SELF)
}

fn usage(who: libc::c_int) -> Usage {
    // SAFETY: a plain C struct of integers, of which all zero is valid.
    let mut r: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes the rusage that it is given; it cannot fail with a `who` that there is.
    unsafe { libc::getrusage(who, &mut r) };
    let duration = |t: libc::timeval| {
        Duration::new(
            t.tv_sec.max(0) as u64,
            (t.tv_usec.clamp(0, 999_999) * 1000) as u32,
        )
    };
    Usage {
        user: duration(r.ru_utime),
        system: duration(r.ru_stime),
        minor_faults: r.ru_minflt,
        major_faults: r.ru_majflt,
        disk_reads: r.ru_inblock,
        disk_writes: r.ru_oublock,
        voluntary_switches: r.ru_nvcsw,
        involuntary_switches: r.ru_nivcsw,
        max_rss_kb: r.ru_maxrss,
    }
}

/// A user as the system knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
}

/// Looks a user up by name.
pub fn user_by_name(name: &str) -> io::Result<Option<User>> {
    let name = CString::new(name)?;
    // SAFETY: a C string, which lives through the call.
    let entry = unsafe { libc::getpwnam(name.as_ptr()) };
    // SAFETY: null, or an entry in static storage that stays valid until the next call of the family; it is copied
    // before anything else runs, and the caller is documented to have no other thread yet.
    Ok(unsafe { entry.as_ref() }.map(user_of))
}

/// Looks a user up by id.
pub fn user_by_id(uid: u32) -> Option<User> {
    // SAFETY: no pointers are given.
    let entry = unsafe { libc::getpwuid(uid) };
    // SAFETY: as in `user_by_name`.
    unsafe { entry.as_ref() }.map(user_of)
}

fn user_of(p: &libc::passwd) -> User {
    // SAFETY: pw_name of an entry that the C library returned is a C string.
    let name = unsafe { CStr::from_ptr(p.pw_name) };
    User {
        name: name.to_string_lossy().into_owned(),
        uid: p.pw_uid,
        gid: p.pw_gid,
    }
}

/// Looks a group up by name and returns its id.
pub fn group_by_name(name: &str) -> io::Result<Option<u32>> {
    let name = CString::new(name)?;
    // SAFETY: a C string, which lives through the call.
    let entry = unsafe { libc::getgrnam(name.as_ptr()) };
    // SAFETY: as in `user_by_name`.
    Ok(unsafe { entry.as_ref() }.map(|group| group.gr_gid))
}

/// Effective user and group id.
pub fn effective_ids() -> (u32, u32) {
    (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    )
}

/// Gives up the present user for `user` and `gid`, for good, with no supplementary group, keeping the
/// capabilities in `keep` (capability numbers) both permitted and effective. What is run later can never
/// have more.
pub fn become_user(user: &User, gid: u32, keep: &[u32]) -> io::Result<()> {
    let was_root = effective_ids().0 == 0;
    // The process has one thread, so the per-thread nature of the raw calls does not matter; libc synchronises them
    // anyway.
    if was_root {
        drop_bounding_set()?;
        // SAFETY: no groups are read from the null pointer.
        check(unsafe { libc::setgroups(0, std::ptr::null()) })?;
        // SAFETY: plain integers.
        check(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) })?;
    }
    // SAFETY: plain integers.
    check(unsafe { libc::setresgid(gid, gid, gid) })?;
    // SAFETY: plain integers.
    check(unsafe { libc::setresuid(user.uid, user.uid, user.uid) })?;
    if was_root && user.uid != 0 {
        set_capabilities(keep)?;
        // The kernel took /proc/self away, by which sockets with long names are reached. Nobody gains by
        // having it back: tracing a process needs all the capabilities that the process has.
        // SAFETY: plain integers.
        check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) })?;
    }
    Ok(())
}

/// Takes every capability away from all that this process may become.
fn drop_bounding_set() -> io::Result<()> {
    for cap in 0.. {
        // SAFETY: plain integers.
        match check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, cap, 0, 0, 0) }) {
            Ok(()) => {}
            // The number after the last capability.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => break,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Makes exactly the capabilities in `keep` permitted and effective for the calling thread.
fn set_capabilities(keep: &[u32]) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut data = [Data {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    }; 2];
    for &cap in keep {
        let word = &mut data[(cap / 32) as usize & 1];
        word.effective |= 1 << (cap % 32);
        word.permitted |= 1 << (cap % 32);
    }
    // SAFETY: version 3 of the interface takes a header and two data words, laid out as above;
    // both outlive the call.
    let rc = unsafe { libc::syscall(libc::SYS_capset, &mut header, data.as_mut_ptr()) };
    if rc == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Sets the file mode creation mask and returns the previous one.
pub fn umask(mask: u32) -> u32 {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask)).as_raw_mode()
}

/// Sets the core file size limit to 0 (`false`) or leaves it as it is.
pub fn forbid_core_dumps() {
    let _ = rustix::process::setrlimit(
        rustix::process::Resource::Core,
        rustix::process::Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    );
}

/// Lets the stack of the main thread grow to `bytes`, as far as the hard limit allows. Linux looks
/// at the limit when the stack grows, so this helps the running process too.
pub fn raise_stack_limit(bytes: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Stack);
    let wanted = now.maximum.map_or(bytes, |max| max.min(bytes));
    if now.current.is_some_and(|current| current < wanted) {
        let _ = setrlimit(
            Resource::Stack,
            Rlimit {
                current: Some(wanted),
                maximum: now.maximum,
            },
        );
    }
}

/// Lets the process lock as much memory as it likes, which older kernels ask of who loads programs into them.
pub fn unlimit_locked_memory() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    Ok(setrlimit(Resource::Memlock, unlimited)?)
}

/// Time since the system started, sleep included.
pub fn boot_time() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(t.tv_sec.max(0) as u64, t.tv_nsec as u32)
}

/// Size of the file system that holds `path`, and how much of it is used, in bytes.
pub fn disk_usage(path: &Path) -> Option<(u64, u64)> {
    let s = rustix::fs::statvfs(path).ok()?;
    let total = s.f_blocks.checked_mul(s.f_frsize)?;
    Some((
        total,
        total.saturating_sub(s.f_bfree.saturating_mul(s.f_frsize)),
    ))
}

/// Sends this process SIGALRM `seconds` from now; 0 calls a pending one off.
pub fn alarm(seconds: u32) {
    // SAFETY: no pointers.
    unsafe { libc::alarm(seconds) };
}

static AT_EXIT: std::sync::Mutex<Vec<fn()>> = std::sync::Mutex::new(Vec::new());

extern "C" fn run_at_exit() {
    let functions = match AT_EXIT.lock() {
        Ok(mut f) => std::mem::take(&mut *f),
        Err(_) => return,
    };
    for f in functions {
        f();
    }
}

/// Runs `function` when the process ends by returning from main or by `exit`.
pub fn at_exit(function: fn()) {
    let Ok(mut functions) = AT_EXIT.lock() else {
        return;
    };
    if functions.is_empty() {
        // SAFETY: a static function without captures, as atexit(3) wants it; it does not unwind,
        // because what it calls returns on errors.
        unsafe { libc::atexit(run_at_exit) };
    }
    functions.push(function);
}

/// Leaves the process at once, without running anything that was registered for its end.
pub fn exit_immediately(code: i32) -> ! {
    // SAFETY: _exit never returns and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

static ORIGINAL_TITLE: std::sync::Mutex<Option<Vec<u8>>> = std::sync::Mutex::new(None);

/// The name that the process shows in `ps`: rewrites the memory that holds the arguments.
///
/// A name longer than the original arguments is cut.
pub fn set_title(title: &str) {
    if let Ok(mut original) = ORIGINAL_TITLE.lock()
        && original.is_none()
    {
        *original = std::fs::read("/proc/self/cmdline").ok();
    }
    write_title(title.bytes().filter(|&b| b != 0).collect());
}

/// Takes [`set_title`] back.
pub fn restore_title() {
    let original = ORIGINAL_TITLE.lock().ok().and_then(|mut o| o.take());
    if let Some(bytes) = original {
        write_title(bytes);
    }
}

fn write_title(mut bytes: Vec<u8>) {
    // The kernel shows the bytes between arg_start and arg_end of the process's own memory.
    // Writing them through /proc/self/mem needs no pointer arithmetic on memory of others.
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else {
        return;
    };
    let Some((_, rest)) = stat.rsplit_once(") ") else {
        return;
    };
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Fields are numbered from 3 here: arg_start is the 48th and arg_end the 49th.
    let field = |n: usize| fields.get(n - 3).and_then(|f| f.parse::<u64>().ok());
    let (Some(start), Some(end)) = (field(48), field(49)) else {
        return;
    };
    if start == 0 || end <= start || end - start > 1 << 20 {
        return;
    }
    bytes.resize((end - start) as usize, 0);
    if let Some(last) = bytes.last_mut() {
        *last = 0;
    }
    use std::os::unix::fs::FileExt;
    if let Ok(mem) = std::fs::OpenOptions::new()
        .write(true)
        .open("/proc/self/mem")
    {
        let _ = mem.write_all_at(&bytes, start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_does_not_fork() {
        // The test harness runs tests on threads of their own.
        assert_eq!(fork().unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn root_is_user_zero() {
        assert_eq!(user_by_id(0).unwrap().name, "root");
        assert_eq!(user_by_name("root").unwrap().unwrap().uid, 0);
        assert!(user_by_name("no such user").unwrap().is_none());
    }
}
