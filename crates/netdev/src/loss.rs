//! Why devices lose packets: what they could not send, and what they received but could not hand on.

use std::io;

use ferrovs_sync::Counter;

/// Why a packet was lost in a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Loss {
    /// The device's queue was full.
    QueueFull,
    /// The device was set down, or gone.
    Down,
    /// Longer than the device sends.
    OverMtu,
    /// Too short for a frame, or its headers do not allow what was left to the device.
    Malformed,
    /// Anything else.
    Failed,
}

impl Loss {
    pub const ALL: [Loss; N] = [
        Loss::QueueFull,
        Loss::Down,
        Loss::OverMtu,
        Loss::Malformed,
        Loss::Failed,
    ];

    /// What the error says with which a device refused a packet.
    pub fn of(error: &io::Error) -> Loss {
        const EIO: i32 = 5;
        const ENXIO: i32 = 6;
        const EAGAIN: i32 = 11;
        const ENODEV: i32 = 19;
        const EINVAL: i32 = 22;
        const EMSGSIZE: i32 = 90;
        const ENETDOWN: i32 = 100;
        const ENOBUFS: i32 = 105;
        match error.raw_os_error() {
            Some(EAGAIN | ENOBUFS) => Loss::QueueFull,
            // A tap that is down says EIO.
            Some(EIO | ENXIO | ENODEV | ENETDOWN) => Loss::Down,
            Some(EMSGSIZE) => Loss::OverMtu,
            Some(EINVAL) => Loss::Malformed,
            _ => Loss::Failed,
        }
    }
}

const N: usize = 5;

/// How many packets of a batch were lost, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses([u8; N]);

impl Losses {
    /// All of `n` packets for one reason.
    pub fn all(loss: Loss, n: usize) -> Losses {
        let mut losses = Losses::default();
        losses.0[loss as usize] = n.try_into().unwrap_or(u8::MAX);
        losses
    }

    pub fn add(&mut self, loss: Loss) {
        let n = &mut self.0[loss as usize];
        *n = n.saturating_add(1);
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; N]
    }

    /// Why the first packet was lost, in the order of the reasons.
    pub fn first(&self) -> Option<Loss> {
        self.iter().next().map(|(loss, _)| loss)
    }

    /// The reasons for which some were.
    pub fn iter(&self) -> impl Iterator<Item = (Loss, u64)> {
        let counts = Loss::ALL.map(|loss| (loss, u64::from(self.0[loss as usize])));
        counts.into_iter().filter(|(_, n)| *n > 0)
    }

    pub fn total(&self) -> u64 {
        self.iter().map(|(_, n)| n).sum()
    }
}

/// What a device has lost since it was opened.
#[derive(Debug, Default)]
pub struct LossCounters([Counter; N]);

impl LossCounters {
    pub fn add(&self, loss: Loss, n: u64) {
        self.0[loss as usize].add(n);
    }

    pub fn sums(&self) -> LossSums {
        LossSums(Loss::ALL.map(|loss| self.0[loss as usize].sum()))
    }
}

/// Totals of a device's losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossSums([u64; N]);

impl LossSums {
    pub fn of(&self, loss: Loss) -> u64 {
        self.0[loss as usize]
    }

    pub fn add(&mut self, loss: Loss, n: u64) {
        self.0[loss as usize] += n;
    }

    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_why_and_losses_are_told_by_reason() {
        let of = |errno| Loss::of(&io::Error::from_raw_os_error(errno));
        assert_eq!(
            [11, 105, 5, 100, 19, 90, 22, 1].map(of),
            [
                Loss::QueueFull,
                Loss::QueueFull,
                Loss::Down,
                Loss::Down,
                Loss::Down,
                Loss::OverMtu,
                Loss::Malformed,
                Loss::Failed
            ]
        );
        let mut losses = Losses::all(Loss::OverMtu, 3);
        assert!(!losses.is_empty() && Losses::default().is_empty());
        losses.add(Loss::QueueFull);
        losses.add(Loss::OverMtu);
        let told: Vec<_> = losses.iter().collect();
        assert_eq!(told, [(Loss::QueueFull, 1), (Loss::OverMtu, 4)]);
        assert_eq!((losses.total(), losses.first()), (5, Some(Loss::QueueFull)));
    }
}
