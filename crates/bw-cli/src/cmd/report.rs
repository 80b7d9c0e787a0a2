//! `bwscan report`: what the store and the bandwidth files say, as pages.

mod sources;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::Context;
use bw_report::{Address, Site};
use clap::Args as ClapArgs;
use serde_json::json;

use super::publication::make_directory;
use crate::args::OUTPUT;
use crate::exit::{Exit, UsageError};
use crate::paths::DataDir;
use crate::text::{grouped, print, print_json, size};

pub(crate) use self::sources::Sources;

#[derive(Debug, ClapArgs)]
pub(crate) struct ReportArgs {
    /// Write the pages into this directory, over an earlier report if there is one.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) sources: Sources,
    /// Print what was written as JSON.
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) json: bool,
}

/// Marks a directory as a report, which the next one may overwrite.
const MARK: &str = ".bwscan-report";

/// Writes the report.
pub(super) fn run(args: &ReportArgs, data: &DataDir) -> anyhow::Result<Exit> {
    let begin = Instant::now();
    let written = write(&args.sources, &args.output, data)?;
    if args.json {
        print_json(&json!({
            "path": written.first_page,
            "pages": written.pages,
            "bytes": written.bytes,
            "seconds": begin.elapsed().as_secs_f64(),
        }))?;
    } else {
        print(format!("wrote {}", written.first_page.display()))?;
        print(format!(
            "{} pages, {}",
            grouped(written.pages),
            size(written.bytes)
        ))?;
    }
    Ok(Exit::Success)
}

/// The pages that were written.
pub(super) struct Written {
    pub(super) first_page: PathBuf,
    pages: usize,
    bytes: u64,
}

/// Writes the report of stores and bandwidth files into `output`.
pub(super) fn write(sources: &Sources, output: &Path, data: &DataDir) -> anyhow::Result<Written> {
    prepare(output)?;
    let site = sources.site(data)?;
    let addresses = site.addresses();
    let bytes = write_pages(&site, &addresses, output)?;
    Ok(Written {
        first_page: output.join("index.html"),
        pages: addresses.len(),
        bytes,
    })
}

/// Makes the directory, unless something else than a report is in it.
fn prepare(output: &Path) -> anyhow::Result<()> {
    make_directory(output)?;
    let mark = output.join(MARK);
    let is_empty = output
        .read_dir()
        .is_ok_and(|mut entries| entries.next().is_none());
    if !is_empty && !mark.exists() {
        let text = format!(
            "{} is not empty and holds no report; give another --output",
            output.display()
        );
        return Err(UsageError(text).into());
    }
    for folder in ["relay", "list", "figure"] {
        make_directory(&output.join(folder))?;
    }
    std::fs::write(&mark, "").with_context(|| format!("{}: cannot be written", mark.display()))
}

/// Makes and writes pages on all processors; returns the bytes of all.
fn write_pages(site: &Site, addresses: &[Address], output: &Path) -> anyhow::Result<u64> {
    let next = AtomicUsize::new(0);
    let work = || -> anyhow::Result<u64> {
        let mut bytes = 0;
        while let Some(address) = addresses.get(next.fetch_add(1, Ordering::Relaxed)) {
            let page = site.render(address);
            let path = output.join(address.path());
            // Who reads the old page reads it to its end; and ext4 waits for the disk when a
            // file that was cut to nothing is closed.
            let _ = std::fs::remove_file(&path);
            std::fs::write(&path, &page)
                .with_context(|| format!("{}: the page cannot be written", path.display()))?;
            bytes += page.len() as u64;
        }
        Ok(bytes)
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let results = workers.into_iter().map(|worker| {
            worker
                .join()
                .unwrap_or_else(|_| Err(anyhow::anyhow!("a page cannot be made")))
        });
        results.sum()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reports_are_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("report");
        prepare(&output).unwrap();
        prepare(&output).unwrap();
        std::fs::write(folder.path().join("mine"), "").unwrap();
        assert!(
            prepare(folder.path())
                .unwrap_err()
                .to_string()
                .contains("holds no report")
        );
    }
}
