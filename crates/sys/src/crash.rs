//! SIGSEGV: before it ends the process, the handler tells where the process was.
//!
//! A daemon's monitor gets the addresses through a pipe and writes them to the log; without a
//! monitor they go straight to the log file. The handler allocates nothing, takes no lock of this
//! program and then lets the signal have its default effect, so a core dump shows the place too.
//! A stack that overflowed leaves no room for the handler: then the kernel ends the process at once.

use std::ffi::{CStr, CString};
use std::fmt::{self, Write};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};

use libc::{SIGSEGV, c_int, c_void};

/// What precedes the frames in a log.
pub const TITLE: &str = "SIGSEGV detected, backtrace:";

/// So many frames are told.
const MAX_FRAMES: usize = 31;
const WORD: usize = size_of::<usize>();

/// The program's own name and where it is loaded. The loader calls it by its command line, which a monitor changes.
static PROGRAM: OnceLock<(CString, usize)> = OnceLock::new();
static LOG: AtomicI32 = AtomicI32::new(-1);
static MONITOR: AtomicI32 = AtomicI32::new(-1);

/// Handles SIGSEGV from now on.
pub fn catch() {
    // The first call loads what later ones need, which no handler may do.
    let _ = Frames::here();
    remember_program();
    // The signal is one that can be handled; if it were not, a crash would only say less.
    // SAFETY: the handler keeps to functions that one may call once they are loaded.
    _ = unsafe { crate::signal::handle(SIGSEGV, handle) };
}

fn remember_program() {
    let (program, base) = object(catch as *const c_void).unwrap_or((c"", 0));
    PROGRAM.get_or_init(|| (program.to_owned(), base));
}

/// Where the frames go if no monitor takes them. Who closes the file takes it back before.
pub fn set_log_file(file: Option<BorrowedFd<'_>>) {
    LOG.store(file.map_or(-1, |f| f.as_raw_fd()), SeqCst);
}

/// The way from a process that crashes to the one that monitors it, made before they part.
#[derive(Debug)]
pub struct Reports {
    read: OwnedFd,
    write: OwnedFd,
}

impl Reports {
    pub fn new() -> io::Result<Reports> {
        remember_program();
        let (read, write) = crate::process::pipe()?;
        crate::process::set_nonblocking(&read)?;
        Ok(Reports { read, write })
    }

    /// In the process that is monitored.
    pub fn send_from_here(self) {
        drop(self.read);
        // Open as long as the process lives.
        MONITOR.store(self.write.into_raw_fd(), SeqCst);
    }

    /// In the monitor, after a crash: what the process told, a frame a line.
    pub fn receive(&self) -> Option<String> {
        let mut bytes = [0; MAX_FRAMES * WORD];
        let n = rustix::io::read(self.read.as_fd(), &mut bytes).ok()?;
        let words = bytes[..n].chunks_exact(WORD);
        let addresses = words.map(|w| usize::from_ne_bytes(w.try_into().expect("a word")));
        let lines: Vec<String> = addresses.map(|a| Frame(a).to_string()).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

extern "C" fn handle(_: c_int) {
    static ENTERED: AtomicBool = AtomicBool::new(false);
    if ENTERED.swap(true, SeqCst) {
        // Another thread is telling of its own: it ends the process.
        // SAFETY: no pointers.
        unsafe { libc::sleep(1) };
    } else {
        let frames = Frames::here();
        match (MONITOR.load(SeqCst), LOG.load(SeqCst)) {
            (-1, -1) => {}
            (-1, log) => {
                let mut text = Text::default();
                let _ = writeln!(text, "{TITLE}");
                for frame in frames.addresses() {
                    let _ = writeln!(text, "{}", Frame(*frame));
                    text.flush(log);
                }
            }
            (monitor, _) => put(monitor, frames.bytes()),
        }
    }
    crate::signal::default(SIGSEGV);
    // SAFETY: the signal is blocked in here; it has its default effect when this returns.
    unsafe { libc::raise(SIGSEGV) };
}

fn put(fd: c_int, bytes: &[u8]) {
    // SAFETY: the bytes live through the call; a descriptor that is not open is an error, no more.
    unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
}

/// Return addresses, innermost first.
struct Frames {
    words: [usize; MAX_FRAMES],
    n: usize,
}

impl Frames {
    #[inline(never)]
    fn here() -> Frames {
        let mut words = [0; MAX_FRAMES];
        // SAFETY: the array has room for as many addresses as are asked for.
        let n = unsafe {
            libc::backtrace(
                words.as_mut_ptr().cast::<*mut c_void>(),
                MAX_FRAMES as c_int,
            )
        };
        let n = usize::try_from(n).unwrap_or(0).min(MAX_FRAMES);
        Frames { words, n }
    }

    fn addresses(&self) -> &[usize] {
        &self.words[..self.n]
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: words have no padding, and each of their bytes is a valid u8.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.n * WORD) }
    }
}

/// An address as the C library tells it: `FILE(SYMBOL+0xOFFSET) [0xADDRESS]`.
struct Frame(usize);

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.0 as *const c_void;
        if let Some((mut file, mut base)) = object(address) {
            if let Some((program, _)) = PROGRAM.get().filter(|p| p.1 == base) {
                file = program;
            }
            text(f, file)?;
            f.write_str("(")?;
            if let Some((name, start)) = symbol(address) {
                text(f, name)?;
                base = start;
            }
            write!(f, "+{:#x}) ", self.0.wrapping_sub(base))?;
        }
        write!(f, "[{:#x}]", self.0)
    }
}

fn look_up(address: *const c_void) -> Option<libc::Dl_info> {
    // SAFETY: an all-zero Dl_info is valid.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: any address may be asked about.
    let known = unsafe { libc::dladdr(address, &mut info) } != 0;
    known.then_some(info)
}

/// The file that an address is in, and where it is loaded.
fn object(address: *const c_void) -> Option<(&'static CStr, usize)> {
    let info = look_up(address).filter(|i| !i.dli_fname.is_null())?;
    // SAFETY: a string of the loader's. Nothing here unloads objects.
    Some((
        unsafe { CStr::from_ptr(info.dli_fname) },
        info.dli_fbase as usize,
    ))
}

/// The symbol that an address belongs to, and where it begins.
fn symbol(address: *const c_void) -> Option<(&'static CStr, usize)> {
    let info = look_up(address).filter(|i| !i.dli_sname.is_null())?;
    // SAFETY: as above.
    Some((
        unsafe { CStr::from_ptr(info.dli_sname) },
        info.dli_saddr as usize,
    ))
}

fn text(f: &mut fmt::Formatter<'_>, s: &CStr) -> fmt::Result {
    f.write_str(s.to_str().unwrap_or("?"))
}

/// A buffer on the stack; what does not fit is cut.
struct Text {
    bytes: [u8; 1024],
    len: usize,
}

impl Default for Text {
    fn default() -> Text {
        Text {
            bytes: [0; 1024],
            len: 0,
        }
    }
}

impl Text {
    fn flush(&mut self, fd: c_int) {
        put(fd, &self.bytes[..self.len]);
        self.len = 0;
    }
}

impl Write for Text {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let n = s.len().min(self.bytes.len() - self.len);
        self.bytes[self.len..self.len + n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_told_by_its_file_symbol_and_offset() {
        let (_, start) = symbol(libc::malloc as *const c_void).unwrap();
        let text = Frame(start + 4).to_string();
        let (file, rest) = text.split_once('(').unwrap();
        assert!(file.contains("libc.so"), "{text}");
        let address = format!("+0x4) [{:#x}]", start + 4);
        assert!(rest.ends_with(&address), "{text}");
        assert_eq!(Frame(1).to_string(), "[0x1]");
    }

    #[test]
    fn a_monitor_reads_the_frames_that_a_process_sent() {
        let reports = Reports::new().unwrap();
        assert_eq!(reports.receive(), None);
        let frames = Frames::here();
        put(reports.write.as_raw_fd(), frames.bytes());
        let lines: Vec<String> = (frames.addresses().iter())
            .map(|a| Frame(*a).to_string())
            .collect();
        assert!(lines.len() > 2, "{lines:?}");
        assert_eq!(reports.receive(), Some(lines.join("\n")));
    }
}
