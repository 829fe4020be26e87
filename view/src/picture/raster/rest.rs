//! What of a file has not been looked at yet.

/// Why a walk did not come to the end of the image.
pub(super) enum Stop {
    /// The file ends before the image does.
    End,
    Wrong(&'static str),
}

/// Width and height.
pub(super) type Walked = Result<(u32, u32), Stop>;

/// What of the file has not been looked at.
#[derive(Clone, Copy)]
pub(super) struct Rest<'file>(pub(super) &'file [u8]);

impl<'file> Rest<'file> {
    pub(super) fn take(&mut self, length: usize) -> Result<&'file [u8], Stop> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Stop::End)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Stop::End)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Stop> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16_be(&mut self) -> Result<u16, Stop> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u16_le(&mut self) -> Result<u16, Stop> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32_be(&mut self) -> Result<u32, Stop> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u32_le(&mut self) -> Result<u32, Stop> {
        self.array().map(u32::from_le_bytes)
    }
}
