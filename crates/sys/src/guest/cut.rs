//! Files that are cut short under their mappings: who shares memory can do that, and the next access would end this
//! process with SIGBUS.
//!
//! Instead, the handler lays another file over the place, a scratch file that all such places share, and the access is
//! tried again. What is there then means nothing, as anything that such a peer shares. A place is a part of the mapping,
//! so large that there are never many, and no larger than need be, since it may come to take as much memory.

use std::io;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};

use libc::{SIGBUS, c_int, c_void, siginfo_t};

/// Mappings that there may be at once.
const MAX: usize = 4096;
/// Places that a mapping is divided into, at most.
const PLACES: usize = 1024;

/// A mapping that is looked after. No address is in one whose end is 0.
struct Range {
    start: AtomicUsize,
    end: AtomicUsize,
    place: AtomicUsize,
}

static RANGES: [Range; MAX] = [const {
    Range {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        place: AtomicUsize::new(0),
    }
}; MAX];
/// The scratch file; it stays open as long as the process lives.
static SCRATCH: AtomicI32 = AtomicI32::new(-1);
static SCRATCH_SIZE: AtomicU64 = AtomicU64::new(0);
/// Held while ranges come and go.
static CHANGING: Mutex<()> = Mutex::new(());

/// Looks after a mapping from now on; returns its number. Its file has pages of that size.
pub fn watch(start: usize, size: usize, page: usize) -> io::Result<usize> {
    let _changing = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
    let place = size.div_ceil(PLACES).next_multiple_of(page.max(1));
    let free = RANGES.iter().position(|r| r.end.load(SeqCst) == 0);
    let free = free.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
    make_scratch(place as u64)?;
    catch()?;
    let range = &RANGES[free];
    range.start.store(start, SeqCst);
    range.place.store(place, SeqCst);
    range.end.store(start + size, SeqCst);
    Ok(free)
}

/// Does not any more; to be called before the mapping goes.
pub fn forget(number: usize) {
    if let Some(range) = RANGES.get(number) {
        range.end.store(0, SeqCst);
    }
}

/// Makes the scratch file as large as a place at least.
fn make_scratch(size: u64) -> io::Result<()> {
    if SCRATCH.load(SeqCst) < 0 {
        SCRATCH.store(super::file(0)?.into_raw_fd(), SeqCst);
    }
    if SCRATCH_SIZE.load(SeqCst) < size {
        // SAFETY: no pointers; the descriptor stays open.
        if unsafe { libc::ftruncate(SCRATCH.load(SeqCst).as_raw_fd(), size as libc::off_t) } != 0 {
            return Err(io::Error::last_os_error());
        }
        SCRATCH_SIZE.store(size, SeqCst);
    }
    Ok(())
}

/// Handles SIGBUS. Others may have taken the signal since the last time.
fn catch() -> io::Result<()> {
    // SAFETY: a plain C struct, of which all zero is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handle as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: a whole action, whose handler does nothing but what handlers may.
    if unsafe { libc::sigaction(SIGBUS, &action, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

extern "C" fn handle(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel gives the handler what belongs to the signal.
    let info = unsafe { &*info };
    // SAFETY: SIGBUS tells an address.
    let address = unsafe { info.si_addr() } as usize;
    if !lay_over(address) {
        // Whatever it is, it has its usual effect when the access is tried again, or when this returns.
        crate::signal::default(SIGBUS);
        if info.si_code <= 0 {
            // SAFETY: no pointers; somebody sent it, so no access is tried again.
            unsafe { libc::raise(SIGBUS) };
        }
    }
}

/// Lays the scratch file over the place where an address is; false if it is in no mapping that is looked after.
fn lay_over(address: usize) -> bool {
    let found = RANGES.iter().find_map(|r| {
        let (end, start) = (r.end.load(SeqCst), r.start.load(SeqCst));
        let place = r.place.load(SeqCst);
        (address >= start && address < end && place > 0).then_some((start, end, place))
    });
    let Some((start, end, place)) = found else {
        return false;
    };
    let from = address - (address - start) % place;
    let size = place.min(end - from);
    // SAFETY: this replaces a part of a mapping that is there as long as it is looked after, and that nobody has a
    // reference into.
    let laid = unsafe {
        libc::mmap(
            from as *mut c_void,
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_FIXED | libc::MAP_NORESERVE,
            SCRATCH.load(SeqCst),
            0,
        )
    };
    laid != libc::MAP_FAILED
}
