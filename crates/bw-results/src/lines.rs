//! Lines of bounded length.

use std::io::{self, BufRead, Read};

/// The longest line that is read, in bytes, its end included: 16 MiB.
pub const LINE_LIMIT: u64 = 1 << 24;

/// Reads a text line by line, none of them longer than [`LINE_LIMIT`].
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `reader`.
    pub const fn new(reader: R) -> Self {
        Self {
            reader,
            buffer: Vec::new(),
            number: 0,
        }
    }

    /// The number of the line that was read last, from 1; 0 before the first.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The next line with its end, or what is wrong with it; `None` at the end.
    ///
    /// # Errors
    /// If reading fails.
    pub fn read(&mut self) -> io::Result<Option<Result<&[u8], &'static str>>> {
        self.buffer.clear();
        let read = Read::take(&mut self.reader, LINE_LIMIT).read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        if self.buffer.last() != Some(&b'\n') && read as u64 == LINE_LIMIT {
            self.reader.skip_until(b'\n')?;
            return Ok(Some(Err("the line is longer than 16 MiB")));
        }
        Ok(Some(Ok(&self.buffer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endless_lines_are_cut() {
        let mut text = vec![b'x'; LINE_LIMIT as usize + 5];
        text.extend_from_slice(b"\nshort\n");
        let mut lines = Lines::new(text.as_slice());
        assert!(matches!(lines.read(), Ok(Some(Err(_)))));
        assert!(matches!(lines.read(), Ok(Some(Ok(b"short\n")))));
        assert_eq!(lines.number(), 2);
        assert!(matches!(lines.read(), Ok(None)));
    }
}
