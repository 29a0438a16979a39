//! Reading and writing big-endian bytes. Reading past the end is an error, never a panic.

use crate::error::OfpErr;
use ferrovs_packet::types::MacAddr;

/// A cursor over bytes; running out of them gives the error it was made with.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    data: &'a [u8],
    short: OfpErr,
}

impl<'a> Reader<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self::with_error(data, OfpErr::OFPBRC_BAD_LEN)
    }

    pub fn with_error(data: &'a [u8], short: OfpErr) -> Self {
        Reader { data, short }
    }

    pub fn len(&self) -> usize {
        self.data.len()
    }

    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    pub fn rest(&self) -> &'a [u8] {
        self.data
    }

    pub fn take(&mut self, n: usize) -> Result<&'a [u8], OfpErr> {
        let (head, tail) = self.data.split_at_checked(n).ok_or(self.short)?;
        self.data = tail;
        Ok(head)
    }

    /// The next `n` bytes as a cursor of their own.
    pub fn sub(&mut self, n: usize) -> Result<Reader<'a>, OfpErr> {
        Ok(Reader {
            data: self.take(n)?,
            short: self.short,
        })
    }

    pub fn skip(&mut self, n: usize) -> Result<(), OfpErr> {
        self.take(n).map(drop)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], OfpErr> {
        let bytes = self.take(N)?;
        let mut out = [0; N];
        out.copy_from_slice(bytes);
        Ok(out)
    }

    pub fn u8(&mut self) -> Result<u8, OfpErr> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16, OfpErr> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, OfpErr> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, OfpErr> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub fn mac(&mut self) -> Result<MacAddr, OfpErr> {
        Ok(MacAddr(self.array()?))
    }

    /// A NUL-padded string of `n` bytes.
    pub fn string(&mut self, n: usize) -> Result<String, OfpErr> {
        let bytes = self.take(n)?;
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(n);
        Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    /// The same of a name, whose last byte is the NUL whatever stands there.
    pub fn name(&mut self, n: usize) -> Result<String, OfpErr> {
        let mut s = *self;
        self.skip(n)?;
        s.string(n - 1)
    }

    /// Whether the next `n` bytes are all zero; they are consumed.
    pub fn zeros(&mut self, n: usize) -> Result<bool, OfpErr> {
        Ok(self.take(n)?.iter().all(|&b| b == 0))
    }
}

/// Appending big-endian values to a buffer.
pub trait Put {
    fn put(&mut self, bytes: &[u8]);
    fn put_u8(&mut self, n: u8) {
        self.put(&[n]);
    }
    fn put_u16(&mut self, n: u16) {
        self.put(&n.to_be_bytes());
    }
    fn put_u32(&mut self, n: u32) {
        self.put(&n.to_be_bytes());
    }
    fn put_u64(&mut self, n: u64) {
        self.put(&n.to_be_bytes());
    }
    fn put_zeros(&mut self, n: usize);
    /// A string cut (between characters) or NUL-padded to `n` bytes, the last of which is NUL.
    fn put_string(&mut self, s: &str, n: usize) {
        let len = s.floor_char_boundary(n - 1);
        self.put(&s.as_bytes()[..len]);
        self.put_zeros(n - len);
    }
    /// Zeros up to the next multiple of 8 since `start`.
    fn pad8(&mut self, start: usize);
    fn set_u16(&mut self, ofs: usize, n: u16);
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn put_zeros(&mut self, n: usize) {
        self.resize(self.len() + n, 0);
    }

    fn pad8(&mut self, start: usize) {
        let len = self.len() - start;
        self.put_zeros(len.next_multiple_of(8) - len);
    }

    fn set_u16(&mut self, ofs: usize, n: u16) {
        self[ofs..ofs + 2].copy_from_slice(&n.to_be_bytes());
    }
}
