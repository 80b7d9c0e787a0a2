//! An sbws home: where its files are, and its results one by one.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::state::SbwsState;
use super::{SbwsLineError, SbwsResult};
use crate::documents::Precedence;
use crate::error::{Error, Result};
use crate::jsonl::Lines;
use crate::{DocumentError, NetworkSnapshot};

/// The directory of an sbws: results in `datadir`, tor's files in `tor`, and
/// `state.dat`. Nothing is ever written to it.
#[derive(Clone, Debug)]
pub struct SbwsHome {
    root: PathBuf,
    datadir: PathBuf,
}

/// A file of results.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct SbwsFile {
    /// The date that its name begins with, as `YYYY-MM-DD`.
    pub date: String,
    /// 1 for those in a directory below `datadir`, else 0.
    pub depth: u8,
    /// Where it is.
    pub path: PathBuf,
}

impl SbwsHome {
    /// The home (or the `datadir`) at `path`.
    pub fn new(path: impl AsRef<Path>) -> Self {
        let root = path.as_ref().to_owned();
        let datadir = root.join("datadir");
        let datadir = if datadir.is_dir() {
            datadir
        } else {
            root.clone()
        };
        Self { root, datadir }
    }

    /// The files of results: those whose name begins with a date, also
    /// gzipped ones, in `datadir` and one directory below it, in the order in
    /// which sbws reads them: by date, then those in `datadir` first.
    ///
    /// # Errors
    /// If a directory cannot be read.
    pub fn files(&self) -> Result<Vec<SbwsFile>> {
        let list = || -> io::Result<Vec<SbwsFile>> {
            let mut files = Vec::new();
            for entry in self.datadir.read_dir()? {
                let path = entry?.path();
                if path.is_dir() {
                    for entry in path.read_dir()? {
                        files.extend(SbwsFile::new(entry?.path(), 1));
                    }
                } else {
                    files.extend(SbwsFile::new(path, 0));
                }
            }
            files.sort_unstable();
            Ok(files)
        };
        list().map_err(|error| {
            let action = "reading the directory of sbws's results";
            Error::io(&self.datadir, action, error)
        })
    }

    /// `state.dat`; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn state(&self) -> Result<Option<SbwsState>> {
        let path = self.root.join("state.dat");
        match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read
                .and_then(|text| Ok(SbwsState::parse(&text)?))
                .map(Some)
                .map_err(|error| Error::io(&path, "reading the state of sbws", error)),
        }
    }

    /// Where tor's cached consensus is.
    pub(super) fn consensus(&self) -> PathBuf {
        self.root.join("tor").join("cached-consensus")
    }

    /// The network as tor's files in `tor` show it: `cached-consensus` with
    /// `cached-descriptors` and, with `journal`, also `cached-descriptors.new`,
    /// which sbws does not look at. `None` without a consensus. Of several
    /// descriptors of a relay the newest counts or, without `journal`, the one that
    /// comes last, as for sbws.
    ///
    /// # Errors
    /// If a file is there and cannot be read or is not what it should be.
    pub fn network(&self, journal: bool) -> Result<Option<NetworkSnapshot>> {
        let directory = self.root.join("tor");
        let consensus = self.consensus();
        if !consensus.exists() {
            return Ok(None);
        }
        let mut descriptors = vec![directory.join("cached-descriptors")];
        if journal {
            descriptors.push(directory.join("cached-descriptors.new"));
        }
        descriptors.retain(|path| path.exists());
        let precedence = if journal {
            Precedence::Newest
        } else {
            Precedence::Last
        };
        NetworkSnapshot::read_files_by(&consensus, &descriptors, precedence).map(Some)
    }

    /// Where sbws's configuration may be: in the home, or beside it.
    pub fn config(&self) -> Option<PathBuf> {
        let beside = self.root.parent().map(|parent| parent.join(".sbws.ini"));
        [Some(self.root.join("sbws.ini")), beside]
            .into_iter()
            .flatten()
            .find(|path| path.is_file())
    }
}

impl SbwsFile {
    /// The file at `path`, if its name is that of a file of results:
    /// `YYYY-MM-DD*.txt`, or gzipped.
    fn new(path: PathBuf, depth: u8) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let date = name.get(..10)?.to_owned();
        let dated = date.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
        let plain = name.strip_suffix(".gz").unwrap_or(name);
        let results = dated && (plain.ends_with(".txt") || plain != name) && path.is_file();
        results.then_some(Self { date, depth, path })
    }

    /// Whether it is gzipped: sbws does not read those.
    pub fn is_gzipped(&self) -> bool {
        self.path.extension().is_some_and(|end| end == "gz")
    }

    /// Shows each line of it that is not empty, as a result or what is wrong
    /// with it, with its number.
    ///
    /// # Errors
    /// If it cannot be read; `visit` has seen some lines then.
    pub fn for_each_result(
        &self,
        mut visit: impl FnMut(u64, Result<SbwsResult, SbwsLineError>),
    ) -> Result<()> {
        let mut read = || -> io::Result<()> {
            let mut reader = self.open()?;
            let mut lines = Lines::new(&mut reader);
            loop {
                let number = lines.number + 1;
                match lines.read()? {
                    Some(Ok(text)) if text.trim_ascii().is_empty() => {}
                    Some(Ok(text)) => visit(number, SbwsResult::parse(text)),
                    Some(Err(problem)) => {
                        visit(number, Err(SbwsLineError::Line(problem.to_owned())));
                    }
                    None => return Ok(()),
                }
            }
        };
        read().map_err(|error| Error::io(&self.path, "reading results of sbws", error))
    }

    pub(super) fn open(&self) -> io::Result<Box<dyn BufRead + Send>> {
        let file = BufReader::with_capacity(1 << 17, File::open(&self.path)?);
        Ok(if self.is_gzipped() {
            Box::new(BufReader::new(MultiGzDecoder::new(file)))
        } else {
            Box::new(file)
        })
    }
}

impl NetworkSnapshot {
    /// The network as a consensus and files of server descriptors show it; of
    /// several descriptors of a relay the newest counts.
    ///
    /// # Errors
    /// If a file cannot be read or is not what it should be.
    pub fn read_files(consensus: &Path, descriptors: &[PathBuf]) -> Result<Self> {
        Self::read_files_by(consensus, descriptors, Precedence::Newest)
    }

    fn read_files_by(
        consensus: &Path,
        descriptors: &[PathBuf],
        precedence: Precedence,
    ) -> Result<Self> {
        fn failed(path: &Path, error: DocumentError) -> Error {
            match error {
                DocumentError::Io(error) => Error::io(path, "reading", error),
                error => Error::io(path, "reading a directory document", error),
            }
        }
        fn open(path: &Path) -> Result<BufReader<File>> {
            let file = File::open(path).map_err(|error| Error::io(path, "reading", error))?;
            Ok(BufReader::with_capacity(1 << 16, file))
        }
        let mut network =
            Self::read_consensus(open(consensus)?).map_err(|error| failed(consensus, error))?;
        for path in descriptors {
            network
                .read_descriptors_by(open(path)?, precedence)
                .map_err(|error| failed(path, error))?;
        }
        Ok(network)
    }
}
