//! Signals as events: the handler notes the number and writes to an eventfd-like pipe.
//!
//! A poll loop waits for [`pipe_fd`] and then asks [`take`] which signals have come. Nothing else
//! happens inside a handler, so anything may be done in response.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

pub use libc::{SIGALRM, SIGBUS, SIGCHLD, SIGHUP, SIGINT, SIGPIPE, SIGSEGV, SIGTERM};

static PIPE: OnceLock<(OwnedFd, OwnedFd)> = OnceLock::new();
static WRITE_FD: AtomicI32 = AtomicI32::new(-1);
static PENDING: AtomicU64 = AtomicU64::new(0);

extern "C" fn note(signal: libc::c_int) {
    // Only atomics and write(2), all async-signal-safe. errno is restored, because the interrupted
    // code may be about to look at it.
    // SAFETY: no pointers are given.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the calling thread's own, which is there as long as the thread.
    let before = unsafe { *errno };
    if (0..64).contains(&signal) {
        PENDING.fetch_or(1 << signal, Ordering::SeqCst);
    }
    let fd = WRITE_FD.load(Ordering::SeqCst);
    if fd >= 0 {
        // SAFETY: one byte from a live local.
        unsafe { libc::write(fd, [0u8].as_ptr().cast(), 1) };
    }
    // SAFETY: as above.
    unsafe { *errno = before };
}

fn pipe() -> &'static (OwnedFd, OwnedFd) {
    PIPE.get_or_init(|| {
        let flags = rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK;
        let pipe = rustix::pipe::pipe_with(flags).expect("pipe for signals");
        WRITE_FD.store(pipe.1.as_raw_fd(), Ordering::SeqCst);
        pipe
    })
}

/// Becomes readable when a caught signal arrives; [`take`] makes it unreadable again.
pub fn pipe_fd() -> BorrowedFd<'static> {
    pipe().0.as_fd()
}

/// Turns `signal` into an event. If `unless_ignored`, a signal that the process was started
/// ignoring stays ignored.
pub fn catch(signal: i32, unless_ignored: bool) -> io::Result<()> {
    pipe();
    let mut old = no_action();
    // SAFETY: sigaction only writes `old`, as there is no new action.
    if unsafe { libc::sigaction(signal, std::ptr::null(), &mut old) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if unless_ignored && old.sa_sigaction == libc::SIG_IGN {
        return Ok(());
    }
    // SAFETY: `note` is async-signal-safe.
    unsafe { handle(signal, note) }
}

/// Has a signal handled. A blocking call that it meets ends (no SA_RESTART), so that whoever made it can look at
/// [`take`].
///
/// # Safety
///
/// The handler does nothing but what a signal handler may.
pub(crate) unsafe fn handle(signal: i32, handler: extern "C" fn(libc::c_int)) -> io::Result<()> {
    let mut new = no_action();
    new.sa_sigaction = handler as usize;
    // SAFETY: a whole action, whose handler lives as long as the program and keeps the caller's promise.
    if unsafe { libc::sigaction(signal, &new, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The default action, without flags and with an empty mask.
fn no_action() -> libc::sigaction {
    // SAFETY: a plain C struct, of which all zero is valid; zero is SIG_DFL, and the empty set.
    unsafe { std::mem::zeroed() }
}

/// Gives `signal` its default effect back.
pub fn default(signal: i32) {
    // SAFETY: SIG_DFL is a valid disposition.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Signals that came since the last call, lowest first.
pub fn take() -> Vec<i32> {
    let mut buf = [0u8; 64];
    if let Some(pipe) = PIPE.get() {
        while matches!(rustix::io::read(&pipe.0, &mut buf), Ok(n) if n > 0) {}
    }
    let set = PENDING.swap(0, Ordering::SeqCst);
    (0..64).filter(|s| set & (1 << s) != 0).collect()
}

/// Whether a caught signal waits to be taken.
pub fn pending() -> bool {
    PENDING.load(Ordering::SeqCst) != 0
}

/// Notes `signal` as if it had arrived.
pub fn inject(signal: i32) {
    note(signal);
}

/// Ends the process by `signal`, as if it had never been caught.
pub fn die_by(signal: i32) -> ! {
    default(signal);
    let mut set = no_action().sa_mask;
    // SAFETY: a valid, empty set; what is no signal leaves it as it is.
    unsafe { libc::sigaddset(&mut set, signal) };
    // SAFETY: a valid set, which is read; the old mask is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut()) };
    // SAFETY: no pointers; the signal has its default effect.
    unsafe { libc::raise(signal) };
    // Its default effect is not to terminate: leave as the shell reports such an end.
    // SAFETY: no pointers; nothing runs afterwards.
    unsafe { libc::_exit(128 + signal) }
}

/// Sends `signal` to process `pid`.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    if unsafe { libc::kill(pid, signal) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The C library's text for a signal, such as "Alarm clock".
pub fn describe(signal: i32) -> String {
    // SAFETY: no pointers are given.
    let text = unsafe { libc::strsignal(signal) };
    if text.is_null() {
        return format!("Unknown signal {signal}");
    }
    // SAFETY: a C string that stays valid until the next call from this thread; it is copied at once.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().into_owned()
}

/// The name of a signal, such as "SIGTERM".
pub fn name(signal: i32) -> String {
    const NAMES: [&str; 32] = [
        "", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV",
        "USR2", "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU",
        "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    match NAMES.get(signal as usize) {
        Some(n) if !n.is_empty() => format!("SIG{n}"),
        _ => format!("signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fd::{Events, PollEntry, poll};

    #[test]
    fn a_caught_signal_becomes_an_event() {
        catch(libc::SIGUSR2, false).unwrap();
        kill(std::process::id() as i32, libc::SIGUSR2).unwrap();
        let mut ready = [PollEntry::new(pipe_fd().as_raw_fd(), Events::IN)];
        let n = poll(&mut ready, Some(std::time::Duration::from_secs(10))).unwrap();
        assert_eq!(n, 1, "no signal");
        assert!(take().contains(&libc::SIGUSR2));
        assert_eq!(describe(SIGALRM), "Alarm clock");
        assert_eq!(name(SIGTERM), "SIGTERM");
    }
}
