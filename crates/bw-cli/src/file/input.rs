//! Files named on the command line: plain, compressed, archives, or standard
//! input.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context as _, ensure};
use bw_file::{Boundary, Document, ReaderBuilder, decompress, for_each_member, is_archive};

use super::style::printable;

fn open(path: &Path) -> anyhow::Result<Box<dyn Read>> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(Box::new(file))
}

/// Calls `visit` with the name and each document of a path, told apart at
/// `boundary`; where there is nothing at all, with an empty document.
pub(super) fn for_each_document(
    path: &Path,
    boundary: Boundary,
    mut visit: impl FnMut(&str, &Document<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut source = BufReader::new(open(path)?);
    let shown = path.display().to_string();
    let context = || format!("cannot read {shown}");
    let mut failure = None;
    let mut read = |name: &str, content: &mut dyn Read| -> Result<(), bw_file::Error> {
        let mut builder = ReaderBuilder::new();
        let mut reader = builder.boundary(boundary).from_reader(content);
        let mut next = Some(reader.next_document()?.unwrap_or_default());
        while let Some(document) = next {
            if let Err(error) = visit(name, &document) {
                failure = Some(error);
                return Err(std::io::Error::other("stopped").into());
            }
            next = reader.next_document()?;
        }
        Ok(())
    };
    let result = if is_archive(&mut source).with_context(context)? {
        for_each_member(source, |name, content| {
            read(&format!("{shown}:{}", printable(name)), content)
        })
    } else {
        let mut content = decompress(source).with_context(context)?;
        read(&shown, &mut content)
    };
    match failure {
        Some(error) => Err(error),
        None => result.with_context(context),
    }
}

/// The only document of a path, as bytes: empty if there is none.
pub(super) fn read_one(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = bw_file::Limits::default().file_bytes;
    let count = decompress(open(path)?)
        .and_then(|source| source.take(limit.saturating_add(1)).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        u64::try_from(count)? <= limit,
        "{} has more than {limit} bytes",
        path.display()
    );
    Ok(bytes)
}
