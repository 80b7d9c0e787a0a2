//! The programs `tor` and `tor-gencert`: where they are, and making keys.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use bw_file::{Ed25519Identity, Fingerprint};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::{Error, ErrorKind, PlanBuilder};

/// Where programs are looked for beyond `PATH`, which often lacks `sbin`.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/usr/local/sbin"];
/// The first tor with congestion control.
const OLDEST: (u32, u32, u32) = (0, 4, 7);
/// Making a key takes about a second of processor time; a machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The programs of an installed tor.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) tor: PathBuf,
    pub(crate) version: String,
    gencert: PathBuf,
}

/// The identities of a node, from the keys made for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) ed25519: Ed25519Identity,
}

impl Programs {
    /// Finds the programs and checks that they can make a network.
    pub(crate) async fn find(options: &PlanBuilder) -> Result<Self, Error> {
        let (tor, version) = locate("tor", options.tor.as_deref(), "--version").await?;
        let version = tor_version(&version).ok_or_else(|| {
            unusable(
                &tor,
                "does not say its version; install tor: apt-get install tor",
            )
        })?;
        if version_numbers(&version).is_none_or(|numbers| numbers < OLDEST) {
            let why = format!("is version {version}; 0.4.7 or newer is needed");
            return Err(unusable(&tor, &why));
        }
        let modules = run(&tor, ["--list-modules"], b"").await?;
        if String::from_utf8_lossy(&modules.stdout).contains("dirauth: no") {
            let why = "was built without the module dirauth, so it cannot be an authority; \
                       use the one of: apt-get install tor";
            return Err(unusable(&tor, why));
        }
        let (gencert, _) = locate("tor-gencert", options.tor_gencert.as_deref(), "-h").await?;
        Ok(Self {
            tor,
            version,
            gencert,
        })
    }

    /// Makes an authority's keys and certificate in `keys`.
    pub(crate) async fn make_authority_keys(
        &self,
        keys: &Path,
        dir_address: &str,
    ) -> Result<Fingerprint, Error> {
        let file = |name| keys.join(name).into_os_string();
        let certificate = keys.join("authority_certificate");
        let arguments = [
            "--create-identity-key".into(),
            "--passphrase-fd".into(),
            "0".into(),
            "-m".into(),
            "12".into(),
            "-a".into(),
            dir_address.into(),
            "-i".into(),
            file("authority_identity_key"),
            "-s".into(),
            file("authority_signing_key"),
            "-c".into(),
            certificate.clone().into_os_string(),
        ];
        // A private network's identity key needs no secret passphrase.
        succeed(
            &self.gencert,
            run(&self.gencert, arguments, b"private\n").await?,
        )?;
        let text = read(&certificate)?;
        text.lines()
            .find_map(|line| line.strip_prefix("fingerprint ")?.parse().ok())
            .ok_or_else(|| unreadable(&certificate))
    }

    /// Makes a relay's identity keys in `data`, or reads those that are there.
    pub(crate) async fn make_relay_keys(
        &self,
        data: &Path,
        nickname: &str,
        torrc: &Path,
    ) -> Result<Identity, Error> {
        let arguments: [&OsStr; 15] = [
            "--list-fingerprint".as_ref(),
            "--quiet".as_ref(),
            "--defaults-torrc".as_ref(),
            torrc.as_ref(),
            "-f".as_ref(),
            torrc.as_ref(),
            "--DataDirectory".as_ref(),
            data.as_ref(),
            "--Nickname".as_ref(),
            nickname.as_ref(),
            // Not opened: tor only checks that this is to be a relay.
            "--ORPort".as_ref(),
            "9".as_ref(),
            "--SocksPort".as_ref(),
            "0".as_ref(),
            "--ignore-missing-torrc".as_ref(),
        ];
        succeed(&self.tor, run(&self.tor, arguments, b"").await?)?;
        Ok(Identity {
            fingerprint: second_word(&data.join("fingerprint"))?,
            ed25519: second_word(&data.join("fingerprint-ed25519"))?,
        })
    }
}

/// Runs the program with a harmless option, to know that it is there.
async fn locate(
    name: &str,
    given: Option<&Path>,
    option: &str,
) -> Result<(PathBuf, String), Error> {
    let candidates = match given {
        Some(path) => vec![path.to_owned()],
        None => {
            let named = DIRECTORIES.map(|directory| Path::new(directory).join(name));
            [vec![PathBuf::from(name)], named.to_vec()].concat()
        }
    };
    for path in &candidates {
        match run(path, [option], b"").await {
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                return Ok((path.clone(), text));
            }
            Err(error) if error.kind() == ErrorKind::TorMissing => {}
            Err(error) => return Err(error),
        }
    }
    Err(missing(given.unwrap_or(Path::new(name))))
}

async fn run(
    program: &Path,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    input: &[u8],
) -> Result<Output, Error> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
            missing(program).with_source(error)
        }
        _ => Error::io("running", program, error),
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // The program may have ended without reading: its status tells.
        let _ = stdin.write_all(input).await;
    }
    match tokio::time::timeout(PATIENCE, child.wait_with_output()).await {
        Ok(output) => output.map_err(failed),
        Err(_) => Err(Error::new(
            ErrorKind::Timeout,
            format!("{} did not end within {PATIENCE:?}", program.display()),
        )),
    }
}

fn succeed(program: &Path, output: Output) -> Result<(), Error> {
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let end: Vec<_> = said.lines().rev().take(20).collect();
    let end: Vec<_> = end.into_iter().rev().collect();
    Err(unusable(
        program,
        &format!("made no keys ({}):\n{}", output.status, end.join("\n")),
    ))
}

fn missing(program: &Path) -> Error {
    let text = format!(
        "{} is not there, or cannot be run; install it with: apt-get install tor",
        program.display()
    );
    Error::new(ErrorKind::TorMissing, text)
}

fn unusable(program: &Path, why: &str) -> Error {
    Error::new(
        ErrorKind::TorUnusable,
        format!("{} {why}", program.display()),
    )
}

fn unreadable(path: &Path) -> Error {
    Error::new(
        ErrorKind::Parse,
        format!("{}: not what tor should have written", path.display()),
    )
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| Error::io("reading", path, error))
}

/// `fingerprint` and `fingerprint-ed25519` hold "nickname identity".
fn second_word<T: std::str::FromStr>(path: &Path) -> Result<T, Error> {
    let text = read(path)?;
    let word = text.split_ascii_whitespace().nth(1);
    word.and_then(|word| word.parse().ok())
        .ok_or_else(|| unreadable(path))
}

/// From "Tor version 0.4.9.11." in the first line.
fn tor_version(output: &str) -> Option<String> {
    let rest = output.lines().next()?.strip_prefix("Tor version ")?;
    let version = rest.split_ascii_whitespace().next()?;
    Some(version.trim_end_matches('.').to_owned())
}

fn version_numbers(version: &str) -> Option<(u32, u32, u32)> {
    let mut parts = version.splitn(4, '.').map(str::parse);
    let mut next = || parts.next()?.ok();
    Some((next()?, next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Plan;

    #[test]
    fn versions_are_read() {
        let said = "Tor version 0.4.9.11.\nThis build of Tor is covered by";
        assert_eq!(tor_version(said).as_deref(), Some("0.4.9.11"));
        let said = "Tor version 0.4.8.1-alpha-dev (git-3cb6a690be60fcdc).\n";
        let version = tor_version(said).unwrap();
        assert_eq!(version, "0.4.8.1-alpha-dev");
        assert_eq!(version_numbers(&version), Some((0, 4, 8)));
        assert_eq!(tor_version("GNU coreutils"), None);
        assert!(version_numbers("0.3.5.8").unwrap() < OLDEST);
    }

    async fn refusal(options: &PlanBuilder) -> Error {
        Programs::find(options).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_missing_tor_is_named_with_the_remedy() {
        let error = refusal(&Plan::builder().tor("/nonexistent/tor")).await;
        assert_eq!(error.kind(), ErrorKind::TorMissing);
        let text = error.to_string();
        assert!(text.contains("/nonexistent/tor"), "{text}");
        assert!(text.contains("apt-get install tor"), "{text}");
    }

    #[tokio::test]
    async fn another_program_is_not_taken_for_tor() {
        let error = refusal(&Plan::builder().tor("/bin/true")).await;
        assert_eq!(error.kind(), ErrorKind::TorUnusable);
    }
}
