//! `bwscan prune`: remove what is old.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use bw_results::UnixMillis;
use bw_store::{Error, Prune, Pruned, Store};
use clap::Args as ClapArgs;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use super::publication::{LATEST, directory};
use crate::args::{LIMITS, OUTPUT};
use crate::exit::{Exit, UsageError};
use crate::paths::DataDir;
use crate::publish::replace_file;
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
    /// Compress dated bandwidth files after this time; "bwscan file" reads them all the same.
    #[arg(long, default_value = "2d", value_parser = values::time, help_heading = LIMITS,
          value_name = "TIME")]
    pub(crate) compress: Duration,
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

/// The result of pruning.
#[derive(Debug, Default)]
pub(super) struct Done {
    records: Pruned,
    /// Bandwidth files that were removed.
    files: Vec<PathBuf>,
    /// Bandwidth files that were compressed.
    compressed: Vec<PathBuf>,
}

impl Done {
    pub(super) fn is_something(&self) -> bool {
        let files = self.files.len() + self.compressed.len();
        self.records.raw + self.records.attempts > 0 || files > 0
    }

    /// Tells in one line what was removed, or would be.
    pub(super) fn describe(&self, dry_run: bool) -> String {
        let (would, compress) = if dry_run {
            ("would remove", "compress")
        } else {
            ("removed", "compressed")
        };
        format!(
            "{would} {} raw records ({}), {} attempts, {} scans, {} networks and {} bandwidth \
             files; {compress} {} of them",
            self.records.raw,
            size(self.records.raw_bytes),
            self.records.attempts,
            self.records.scans,
            self.records.snapshots,
            self.files.len(),
            self.compressed.len(),
        )
    }
}

/// Removes what is old from store and directory, and tells what it was.
pub(super) fn run(args: &PruneArgs, data: &DataDir) -> anyhow::Result<Exit> {
    let done = prune(args, data)?;
    if args.json {
        print_json(&json!({
            "dry_run": args.dry_run,
            "raw_records": done.records.raw,
            "raw_bytes": done.records.raw_bytes,
            "attempts": done.records.attempts,
            "scans": done.records.scans,
            "networks": done.records.snapshots,
            "files": done.files,
            "compressed": done.compressed,
        }))?;
        return Ok(Exit::Success);
    }
    print(done.describe(args.dry_run))?;
    Ok(Exit::Success)
}

/// Removes what is old; returns what it was.
pub(super) fn prune(args: &PruneArgs, data: &DataDir) -> anyhow::Result<Done> {
    if args.raw > args.records {
        let text = "--raw is above --records: a raw record goes with its attempt at the latest";
        return Err(UsageError(text.to_owned()).into());
    }
    let now = UnixMillis::from(SystemTime::now());
    // Files first: they need no lock, and make room for the store's work.
    let output = directory(args.output.as_deref(), data);
    let dated = dated_files(&output)?;
    let (files, kept): (Vec<_>, Vec<_>) = dated
        .into_iter()
        .partition(|file| file.made < now.before(args.files));
    let is_due = |file: &Dated| !file.is_compressed && file.made < now.before(args.compress);
    let compressed = kept.into_iter().filter(is_due).map(|file| file.path);
    let compressed: Vec<PathBuf> = compressed.collect();
    let files: Vec<PathBuf> = files.into_iter().map(|file| file.path).collect();
    if !args.dry_run {
        for file in &files {
            remove(file)?;
        }
        for file in &compressed {
            compress(file)?;
        }
    }
    let prune = Prune::new(now.before(args.raw), now.before(args.records));
    let records = if args.dry_run {
        match Store::open_read_only(data.store()) {
            Err(Error::Missing { .. }) => Pruned::default(),
            store => store?.would_prune(&prune)?,
        }
    } else if data.store().exists() {
        Store::open(data.store())?.prune(&prune)?
    } else {
        Pruned::default()
    };
    Ok(Done {
        records,
        files,
        compressed,
    })
}

/// A bandwidth file as `generate` names it, perhaps compressed since.
struct Dated {
    path: PathBuf,
    /// The time in its name.
    made: UnixMillis,
    is_compressed: bool,
}

impl Dated {
    /// `20261128_201100.v3bw` or `20261128_201100.v3bw.gz`.
    fn new(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let plain = name.strip_suffix(".gz");
        let stem = plain.unwrap_or(name).strip_suffix(".v3bw")?;
        let made = jiff::civil::DateTime::strptime("%Y%m%d_%H%M%S", stem).ok()?;
        let made = made.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
        let made = UnixMillis::from_secs(u64::try_from(made.as_second()).ok()?);
        Some(Self {
            made,
            is_compressed: plain.is_some(),
            path,
        })
    }
}

/// The dated bandwidth files of a directory by age, but never the one in use.
fn dated_files(directory: &Path) -> anyhow::Result<Vec<Dated>> {
    let in_use = std::fs::canonicalize(directory.join(LATEST)).ok();
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("{}: cannot be listed", directory.display()))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if in_use.is_none() || std::fs::canonicalize(&path).ok() != in_use {
            files.extend(Dated::new(path));
        }
    }
    files.sort_unstable_by_key(|file| file.made);
    Ok(files)
}

fn remove(file: &Path) -> anyhow::Result<()> {
    std::fs::remove_file(file).with_context(|| format!("{}: it cannot be removed", file.display()))
}

/// Replaces a file by its gzip, which every tool reads.
fn compress(file: &Path) -> anyhow::Result<()> {
    let packed = || {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&std::fs::read(file)?)?;
        encoder.finish()
    };
    let packed = packed().with_context(|| format!("{}: cannot be compressed", file.display()))?;
    replace_file(&file.with_extension("v3bw.gz"), &packed)?;
    remove(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &[PathBuf]) -> Vec<&str> {
        let names = files.iter().filter_map(|file| file.file_name()?.to_str());
        names.collect()
    }

    #[test]
    fn old_files_are_compressed_then_removed_and_others_stay() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::at(directory.path().to_owned());
        let output = data.bandwidth_files();
        std::fs::create_dir(&output).unwrap();
        let now = UnixMillis::from(SystemTime::now());
        let day = |days: u64| {
            let time = now.before(Duration::from_secs(days * 86_400));
            crate::text::format_utc(time, "%Y%m%d_%H%M%S.v3bw")
        };
        let (new, week, month) = (day(1), day(7), day(40));
        let others = ["mine.v3bw", "20261399_000000.v3bw", "20261101_003500.txt"];
        for name in [&*new, &*week, &*month].into_iter().chain(others) {
            std::fs::write(output.join(name), "1\n").unwrap();
        }
        let in_use = day(50);
        std::fs::write(output.join(&in_use), "2\n").unwrap();
        std::os::unix::fs::symlink(&in_use, output.join(LATEST)).unwrap();
        let day = |days: u64| Duration::from_secs(days * 86_400);
        let mut args = PruneArgs {
            raw: day(7),
            records: day(28),
            compress: day(2),
            files: day(28),
            output: None,
            dry_run: true,
            json: false,
        };
        for dry_run in [true, false] {
            args.dry_run = dry_run;
            let done = prune(&args, &data).unwrap();
            assert_eq!(names(&done.files), [&*month]);
            assert_eq!(names(&done.compressed), [&*week]);
        }
        assert!(!prune(&args, &data).unwrap().is_something());
        let packed = std::fs::File::open(output.join(format!("{week}.gz"))).unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(packed), &mut text)
            .unwrap();
        assert_eq!(text, "1\n");
        assert!(!output.join(&week).exists() && output.join(&new).exists());
        for other in others {
            assert!(output.join(other).exists(), "{other}");
        }
        assert_eq!(std::fs::read(output.join(LATEST)).unwrap(), b"2\n");
        // Compressed files go in the end, too.
        args.files = day(5);
        let done = prune(&args, &data).unwrap();
        assert_eq!(names(&done.files), [format!("{week}.gz")]);
    }
}
