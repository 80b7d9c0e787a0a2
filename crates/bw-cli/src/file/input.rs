//! Files named on the command line: plain, compressed, archives, or standard
//! input.

use std::fs::File;
use std::io::{BufReader, Read, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bw_file::{Boundary, Document, ReaderBuilder, decompress, for_each_member, is_archive};

use crate::exit::{is_broken_pipe, text};
use crate::text::printable;

/// The way in which inputs are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// The border between files that follow each other outside of archives.
    pub(super) boundary: Boundary,
    /// Set if other files than bandwidth files are looked at too. Members of
    /// archives never are.
    pub(super) anything: bool,
}

impl Reading {
    /// Bandwidth files, each as a whole.
    pub(super) const WHOLE: Self = Self {
        boundary: Boundary::None,
        anything: false,
    };

    /// Bandwidth files, also several after each other as CollecTor has them.
    pub(super) const SEVERAL: Self = Self {
        boundary: Boundary::Annotation,
        anything: false,
    };
}

/// One bandwidth file.
pub(super) struct Input<'a> {
    /// Its path, and in an archive the member's.
    pub(super) name: &'a str,
    pub(super) document: &'a Document<'a>,
    /// True for a member of an archive.
    pub(super) archived: bool,
    /// True if it is alone, as far as is known: neither in an archive nor
    /// after another one.
    pub(super) alone: bool,
}

/// The reason why reading ends.
enum Stop {
    /// The input cannot be read.
    Unreadable(anyhow::Error),
    /// The visitor has an error of its own.
    Visitor(anyhow::Error),
}

impl From<bw_file::Error> for Stop {
    fn from(error: bw_file::Error) -> Self {
        Self::Unreadable(error.into())
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Unreadable(error.into())
    }
}

/// Calls `visit` for each file of the paths. A file that cannot be read is named
/// on standard error, and the others are read nevertheless.
///
/// # Errors
/// Those of `visit`, which end the reading; in the end, if something could not
/// be read.
pub(super) fn for_each_input(
    paths: &[PathBuf],
    reading: Reading,
    mut visit: impl FnMut(&Input<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut left_out = 0_usize;
    for path in paths {
        match for_each_document(path, reading, &mut visit) {
            Ok(members) => left_out += members,
            Err(Stop::Visitor(error)) => return Err(error),
            Err(Stop::Unreadable(error)) if paths.len() == 1 => return Err(error),
            Err(Stop::Unreadable(error)) => {
                tell(&error)?;
                left_out += 1;
            }
        }
    }
    match left_out {
        0 => Ok(()),
        1 => bail!("1 file could not be read"),
        more => bail!("{more} files could not be read"),
    }
}

/// The only file of a path.
pub(super) fn read_one(path: &Path) -> anyhow::Result<Document<'static>> {
    let mut only = None;
    for_each_input(&[path.to_owned()], Reading::WHOLE, |input| {
        if only.is_some() {
            let path = path.display();
            bail!("{path} has several files: unpack the one that is meant");
        }
        only = Some(input.document.clone().into_owned());
        Ok(())
    })?;
    only.with_context(|| format!("{} has no bandwidth file", path.display()))
}

fn tell(error: &anyhow::Error) -> anyhow::Result<()> {
    writeln!(std::io::stderr(), "bwscan: {}", text(error))?;
    Ok(())
}

fn open(path: &Path) -> anyhow::Result<Box<dyn Read>> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(Box::new(file))
}

/// Returns how many members of an archive are no bandwidth files.
fn for_each_document(
    path: &Path,
    reading: Reading,
    visit: &mut dyn FnMut(&Input<'_>) -> anyhow::Result<()>,
) -> Result<usize, Stop> {
    let mut source = BufReader::new(open(path).map_err(Stop::Unreadable)?);
    let shown = path.display().to_string();
    let mut left_out = 0;
    let read_all = || -> Result<(), Stop> {
        if !is_archive(&mut source)? {
            let mut content = decompress(source)?;
            return for_each_after_another(&mut content, reading, &shown, false, visit);
        }
        let mut members = 0_usize;
        for_each_member(source, |name, content| -> Result<(), Stop> {
            members += 1;
            let name = format!("{shown}:{}", printable(name));
            match for_each_after_another(content, Reading::SEVERAL, &name, true, visit) {
                Err(Stop::Unreadable(error)) if error.is::<NoBandwidthFile>() => {
                    left_out += 1;
                    tell(&error).map_err(Stop::Visitor)
                }
                result => result,
            }
        })?;
        if members == 0 {
            let nothing = NoBandwidthFile(format!("{shown} is an archive without files"));
            return Err(Stop::Unreadable(nothing.into()));
        }
        Ok(())
    };
    match read_all() {
        Err(Stop::Unreadable(error))
            if !error.is::<NoBandwidthFile>() && !is_broken_pipe(&error) =>
        {
            let told = error.context(format!("cannot read {shown}"));
            Err(Stop::Unreadable(told))
        }
        result => result.map(|()| left_out),
    }
}

/// Something else than a bandwidth file.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoBandwidthFile(String);

fn for_each_after_another(
    content: &mut dyn Read,
    reading: Reading,
    name: &str,
    archived: bool,
    visit: &mut dyn FnMut(&Input<'_>) -> anyhow::Result<()>,
) -> Result<(), Stop> {
    let mut builder = ReaderBuilder::new();
    let mut reader = builder.boundary(reading.boundary).from_reader(content);
    let mut alone = !archived;
    let mut next = Some(reader.next_document()?.unwrap_or_default());
    while let Some(document) = next {
        if !reading.anything && !document.is_bandwidth_file() {
            let text = format!(
                "{name} is no bandwidth file: no line has a time or the bandwidth of a relay"
            );
            return Err(Stop::Unreadable(NoBandwidthFile(text).into()));
        }
        next = reader.next_document()?;
        alone &= next.is_none();
        let input = Input {
            name,
            document: &document,
            archived,
            alone,
        };
        visit(&input).map_err(Stop::Visitor)?;
    }
    Ok(())
}
