//! The streaming reader's memory on input without end. A binary with one
//! test, since what is measured is the memory of the whole process: nothing
//! else may run beside it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

use std::io::{self, Read};

use bw_file::{ErrorKind, Limit, Limits, Reader, ReaderBuilder};

const GIB: u64 = 1 << 30;
const LINES: u64 = 10_000_000;
const LINE: &[u8] = b"bw=5 node_id=x\n";

/// `count` times a line, made as it is read.
struct Lines {
    block: Vec<u8>,
    at: usize,
    left: u64,
}

impl Lines {
    fn new(count: u64) -> Self {
        Self {
            block: LINE.repeat(1000),
            at: 0,
            left: count * u64::try_from(LINE.len()).unwrap(),
        }
    }
}

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.block[self.at..];
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let count = rest.len().min(left).min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at = (self.at + count) % self.block.len();
        self.left -= u64::try_from(count).unwrap();
        Ok(count)
    }
}

/// The most memory that this process has had so far, in bytes; none where the
/// system does not tell.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

fn header() -> &'static [u8] {
    b"1700000000\n=====\n"
}

/// A gibibyte in one line between two good ones.
fn one_long_line() {
    let input = header()
        .chain(LINE)
        .chain(io::repeat(b'x').take(GIB))
        .chain(&b"\n"[..])
        .chain(LINE);
    let mut reader = Reader::new(input);
    assert!(reader.next_relay().unwrap().is_some());
    let error = reader.next_relay().unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 4, column 1 (byte 32): more than 1048576 bytes in a line; \
         raise the limit if the input is to be trusted"
    );
    assert!(reader.next_relay().unwrap().is_some());
    assert!(reader.next_relay().unwrap().is_none());
    assert_eq!(reader.position().byte, 32 + GIB + 1 + 15);
}

/// The same without any line feed, and not even a header.
fn nothing_but_zeros() {
    let mut reader = Reader::new(io::repeat(0).take(GIB));
    assert!(reader.next_line().is_err());
    assert!(reader.next_line().unwrap().is_none());
}

/// More lines than the default limits allow, and all of them without limits.
fn many_lines() {
    let mut reader = Reader::new(header().chain(Lines::new(LINES)));
    let mut relays = 0_u64;
    let error = loop {
        match reader.next_relay() {
            Ok(Some(_)) => relays += 1,
            Ok(None) => panic!("the limit was not seen"),
            Err(error) => break error,
        }
    };
    assert_eq!(relays, 1_000_000 - 2);
    assert!(
        matches!(
            error.kind(),
            ErrorKind::LimitExceeded {
                limit: Limit::Lines,
                maximum: 1_000_000,
                ..
            }
        ),
        "{error}"
    );

    let mut limits = Limits::default();
    limits.lines = u64::MAX;
    let mut reader = ReaderBuilder::new()
        .limits(limits)
        .from_reader(header().chain(Lines::new(LINES)));
    let mut total = 0;
    while let Some(relay) = reader.next_relay().unwrap() {
        total += relay.bandwidth().unwrap().value();
    }
    assert_eq!(total, 5 * LINES);
}

/// 700 MiB of a member's name: compressed, such an archive has 25 kB.
#[cfg(feature = "archive")]
fn a_long_name() {
    const NAME: u64 = 700 << 20;
    let header = |kind: tar::EntryType, size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_path("x").unwrap();
        header.set_cksum();
        *header.as_bytes()
    };
    let (name, member) = (
        header(tar::EntryType::GNULongName, NAME),
        header(tar::EntryType::Regular, 0),
    );
    let archive = (&name[..])
        .chain(io::repeat(b'x').take(NAME))
        .chain(&member[..]);
    let visit = |_: &str, _: &mut dyn Read| Ok::<(), bw_file::Error>(());
    let error = bw_file::for_each_member(archive, visit).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the archive has a name or attributes of 734003200 bytes"
    );
}

#[test]
fn a_stream_takes_less_than_2_mib_whatever_its_length() {
    // What the first use of everything takes is not the reader's.
    let mut reader = Reader::new(header().chain(Lines::new(10)));
    while reader.next_relay().unwrap().is_some() {}
    drop(reader);
    let before = peak();

    for (what, read) in [
        ("one long line", one_long_line as fn()),
        ("nothing but zeros", nothing_but_zeros),
        ("many lines", many_lines),
        #[cfg(feature = "archive")]
        ("a long name in an archive", a_long_name),
    ] {
        read();
        let (Some(before), Some(after)) = (before, peak()) else {
            println!("SKIPPED: this system does not tell how much memory was used");
            continue;
        };
        let grown = after - before;
        println!("{what}: at most {} KiB more", grown / 1024);
        assert!(grown < 2 << 20, "{what}: {grown} bytes");
    }
}
