//! Capture files (libpcap, microseconds, Ethernet) as lists of frames.

use std::io;
use std::path::Path;

const MAGIC: u32 = 0xa1b2_c3d4;

/// The frames of a capture file of either byte order.
pub fn read(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    let bytes = std::fs::read(path)?;
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "not a pcap file");
    let magic = bytes.first_chunk::<4>().ok_or_else(bad)?;
    let le = match (u32::from_le_bytes(*magic), u32::from_be_bytes(*magic)) {
        (MAGIC, _) => true,
        (_, MAGIC) => false,
        _ => return Err(bad()),
    };
    let word = |at: usize| -> Option<u32> {
        let w: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(if le {
            u32::from_le_bytes(w)
        } else {
            u32::from_be_bytes(w)
        })
    };
    let (mut frames, mut at) = (Vec::new(), 24);
    while let Some(len) = word(at + 8) {
        at += 16;
        frames.push(bytes.get(at..at + len as usize).ok_or_else(bad)?.to_vec());
        at += len as usize;
    }
    Ok(frames)
}

/// Writes frames, all at time 0.
pub fn write(path: &Path, frames: &[Vec<u8>]) -> io::Result<()> {
    let mut out = Vec::new();
    for word in [MAGIC, 4 << 16 | 2, 0, 0, 65535, 1] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    for frame in frames {
        for word in [0, 0, frame.len() as u32, frame.len() as u32] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(frame);
    }
    std::fs::write(path, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_a_capture_file() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("x.pcap");
        let frames = vec![vec![1; 60], vec![], vec![2; 1514]];
        write(&path, &frames)?;
        assert_eq!(read(&path)?, frames);
        std::fs::write(&path, b"junk")?;
        assert!(read(&path).is_err());
        Ok(())
    }
}
