//! `bwscan prune`: remove what is old.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use bw_results::UnixMillis;
use bw_store::{Error, Prune, Pruned, Store};
use clap::Args as ClapArgs;
use serde_json::json;

use super::publication::{LATEST, directory};
use crate::args::{LIMITS, OUTPUT};
use crate::exit::{Exit, UsageError};
use crate::paths::DataDir;
use crate::text::{print, print_json, size};
use crate::values;

/// Options of `bwscan prune`.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct PruneArgs {
    /// Keep raw records (slices, timings, texts) for this long.
    #[arg(long, default_value = "7d", value_parser = values::time, help_heading = LIMITS,
          value_name = "TIME")]
    pub(crate) raw: Duration,
    /// Keep attempts with their rates for this long; a bandwidth file needs up to 28 days.
    #[arg(long, default_value = "28d", value_parser = values::time, help_heading = LIMITS,
          value_name = "TIME")]
    pub(crate) records: Duration,
    /// Keep dated bandwidth files for this long.
    #[arg(long, default_value = "28d", value_parser = values::time, help_heading = LIMITS,
          value_name = "TIME")]
    pub(crate) files: Duration,
    /// Remove bandwidth files of this directory [default: v3bw in the data directory].
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Show what would be removed, and remove nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON.
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) json: bool,
}

/// Removes what is old from store and directory, and tells what it was.
pub(super) fn run(args: &PruneArgs, data: &DataDir) -> anyhow::Result<Exit> {
    let (pruned, files) = prune(args, data)?;
    if args.json {
        print_json(&json!({
            "dry_run": args.dry_run,
            "raw_records": pruned.raw,
            "raw_bytes": pruned.raw_bytes,
            "attempts": pruned.attempts,
            "scans": pruned.scans,
            "networks": pruned.snapshots,
            "files": files,
        }))?;
        return Ok(Exit::Success);
    }
    print(describe(args.dry_run, &pruned, files.len()))?;
    Ok(Exit::Success)
}

/// Tells in one line what was removed, or would be.
pub(super) fn describe(dry_run: bool, pruned: &Pruned, files: usize) -> String {
    format!(
        "{} {} raw records ({}), {} attempts, {} scans, {} networks and {files} bandwidth files",
        if dry_run { "would remove" } else { "removed" },
        pruned.raw,
        size(pruned.raw_bytes),
        pruned.attempts,
        pruned.scans,
        pruned.snapshots,
    )
}

/// Removes what is old; returns what it was, with the paths of the files.
pub(super) fn prune(args: &PruneArgs, data: &DataDir) -> anyhow::Result<(Pruned, Vec<PathBuf>)> {
    if args.raw > args.records {
        let text = "--raw is above --records: a raw record goes with its attempt at the latest";
        return Err(UsageError(text.to_owned()).into());
    }
    let now = UnixMillis::from(SystemTime::now());
    let prune = Prune::new(now.before(args.raw), now.before(args.records));
    let pruned = if args.dry_run {
        match Store::open_read_only(data.store()) {
            Err(Error::Missing { .. }) => Pruned::default(),
            store => store?.would_prune(&prune)?,
        }
    } else if data.store().exists() {
        Store::open(data.store())?.prune(&prune)?
    } else {
        Pruned::default()
    };
    let output = directory(args.output.as_deref(), data);
    let files = old_files(&output, now.before(args.files))?;
    if !args.dry_run {
        for file in &files {
            std::fs::remove_file(file)
                .with_context(|| format!("{}: it cannot be removed", file.display()))?;
        }
    }
    Ok((pruned, files))
}

/// The dated bandwidth files that are older than `before`, but never the one in use.
fn old_files(directory: &Path, before: UnixMillis) -> anyhow::Result<Vec<PathBuf>> {
    let in_use = std::fs::canonicalize(directory.join(LATEST)).ok();
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("{}: cannot be listed", directory.display()))?,
    };
    let mut old = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_dated = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(is_dated);
        let modified = std::fs::symlink_metadata(&path)?.modified()?;
        if is_dated
            && UnixMillis::from(modified) < before
            && std::fs::canonicalize(&path).ok() != in_use
        {
            old.push(path);
        }
    }
    old.sort_unstable();
    Ok(old)
}

/// `20261128_201100.v3bw`, as `generate` names files.
fn is_dated(name: &str) -> bool {
    name.strip_suffix(".v3bw").is_some_and(|stem| {
        let digits = |text: &str, count| {
            text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        stem.split_once('_')
            .is_some_and(|(day, time)| digits(day, 8) && digits(time, 6))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dated_files_that_are_not_in_use_are_old() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in [
            "20261101_003500.v3bw",
            "20261128_203500.v3bw",
            "mine.v3bw",
            "x.txt",
        ] {
            std::fs::write(path(name), "1\n").unwrap();
        }
        std::os::unix::fs::symlink("20261128_203500.v3bw", path(LATEST)).unwrap();
        let later = UnixMillis::from(SystemTime::now()).after(Duration::from_secs(60));
        let old = old_files(directory.path(), later).unwrap();
        assert_eq!(old, [path("20261101_003500.v3bw")]);
        assert_eq!(
            old_files(directory.path(), UnixMillis::new(1)).unwrap(),
            Vec::<PathBuf>::new()
        );
        assert_eq!(
            old_files(&path("none"), later).unwrap(),
            Vec::<PathBuf>::new()
        );
    }
}
