//! Which CPUs a thread may use.

use std::io;

/// The CPUs that the calling thread may run on, ascending.
pub fn current() -> io::Result<Vec<u32>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    let max = rustix::thread::CpuSet::MAX_CPU;
    Ok((0..max)
        .filter(|&c| set.is_set(c))
        .map(|c| c as u32)
        .collect())
}

/// Restricts the calling thread to `cpus`.
pub fn set_current(cpus: &[u32]) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    for &c in cpus {
        if (c as usize) < rustix::thread::CpuSet::MAX_CPU {
            set.set(c as usize);
        }
    }
    rustix::thread::sched_setaffinity(None, &set)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_can_be_pinned_to_a_cpu_that_it_has() {
        let cpus = current().unwrap();
        assert!(!cpus.is_empty());
        std::thread::spawn(move || {
            set_current(&cpus[..1]).unwrap();
            assert_eq!(current().unwrap(), cpus[..1]);
        })
        .join()
        .unwrap();
    }
}
