//! The home of an sbws: its files, and its results one by one.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use bw_results::{DescriptorChoice, Lines, NetworkSnapshot};
use flate2::bufread::MultiGzDecoder;

use crate::{Error, LineError, Result, ResultLine, State};

/// The directory of an sbws: results in `datadir`, tor's files in `tor`, and
/// `state.dat`. Nothing is ever written to it.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
    datadir: PathBuf,
}

/// A file of results.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct ResultFile {
    /// The date that its name begins with, as `YYYY-MM-DD`.
    pub date: String,
    /// 1 for those in a directory below `datadir`, else 0.
    pub depth: u8,
    /// The file.
    pub path: PathBuf,
}

impl Home {
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
    pub fn files(&self) -> Result<Vec<ResultFile>> {
        let list = || -> io::Result<Vec<ResultFile>> {
            let mut files = Vec::new();
            for entry in self.datadir.read_dir()? {
                let path = entry?.path();
                if path.is_dir() {
                    for entry in path.read_dir()? {
                        files.extend(ResultFile::new(entry?.path(), 1));
                    }
                } else {
                    files.extend(ResultFile::new(path, 0));
                }
            }
            files.sort_unstable();
            Ok(files)
        };
        list().map_err(|error| {
            let action = "reading the directory of sbws's results";
            Error::file(&self.datadir, action, error)
        })
    }

    /// `state.dat`; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn state(&self) -> Result<Option<State>> {
        let path = self.root.join("state.dat");
        match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read
                .and_then(|text| Ok(State::parse(&text)?))
                .map(Some)
                .map_err(|error| Error::file(&path, "reading the state of sbws", error)),
        }
    }

    /// The place of tor's cached consensus.
    pub(crate) fn consensus(&self) -> PathBuf {
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
        let choice = if journal {
            DescriptorChoice::Newest
        } else {
            DescriptorChoice::Last
        };
        let network = NetworkSnapshot::read_files_by(&consensus, &descriptors, choice)?;
        Ok(Some(network))
    }

    /// sbws's configuration, in the home or beside it, if there is one.
    pub fn config(&self) -> Option<PathBuf> {
        let beside = self.root.parent().map(|parent| parent.join(".sbws.ini"));
        [Some(self.root.join("sbws.ini")), beside]
            .into_iter()
            .flatten()
            .find(|path| path.is_file())
    }
}

impl ResultFile {
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

    /// Returns whether it is gzipped: sbws does not read those.
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
        mut visit: impl FnMut(u64, Result<ResultLine, LineError>),
    ) -> Result<()> {
        let mut read = || -> io::Result<()> {
            let mut lines = Lines::new(self.open()?);
            loop {
                let number = lines.number() + 1;
                match lines.read()? {
                    Some(Ok(text)) if text.trim_ascii().is_empty() => {}
                    Some(Ok(text)) => visit(number, ResultLine::parse(text)),
                    Some(Err(problem)) => {
                        visit(number, Err(LineError::Line(problem.to_owned())));
                    }
                    None => return Ok(()),
                }
            }
        };
        read().map_err(|error| Error::file(&self.path, "reading results of sbws", error))
    }

    pub(crate) fn open(&self) -> io::Result<Box<dyn BufRead + Send>> {
        let file = BufReader::with_capacity(1 << 17, File::open(&self.path)?);
        Ok(if self.is_gzipped() {
            Box::new(BufReader::new(MultiGzDecoder::new(file)))
        } else {
            Box::new(file)
        })
    }
}
