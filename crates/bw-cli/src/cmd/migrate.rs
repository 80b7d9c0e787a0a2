//! `bwscan migrate-from-sbws`: take an sbws over, and show how to go on.

mod merge;

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::Context;
use bw_sbws::{Config, Home};
use bw_store::Store;
use clap::Args as ClapArgs;
use tempfile::NamedTempFile;

use super::publication::LATEST;
use super::sbws_config::converted;
use super::transfer::Total;
use crate::args::{COMMON, OUTPUT};
use crate::config::ConfigFile;
use crate::exit::{Exit, UsageError};
use crate::paths::{DataDir, SYSTEM_CONFIG};
use crate::text::print;

use self::merge::{Merged, merge};

/// Options of `bwscan migrate-from-sbws`.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = COMMON)]
pub(crate) struct MigrateArgs {
    /// Take over the options of this sbws.
    #[arg(long, default_value = "/etc/sbws/sbws.ini", value_name = "FILE")]
    pub(crate) sbws_config: PathBuf,
    /// Take over the results in this sbws home [default: the one that its
    /// configuration names].
    #[arg(long, value_name = "DIR")]
    pub(crate) sbws_home: Option<PathBuf>,
    /// Add the options to this configuration file [default: the one in use, or
    /// /etc/bwscan/bwscan.toml].
    #[arg(long, value_name = "FILE")]
    pub(crate) write_config: Option<PathBuf>,
    /// Show what would be done, and change nothing.
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) dry_run: bool,
}

/// An sbws of this machine.
struct Sbws {
    config: Config,
    home: PathBuf,
    /// Its newest bandwidth file, if it has one.
    file: PathBuf,
}

impl Sbws {
    fn find(args: &MigrateArgs) -> anyhow::Result<Self> {
        let config = Config::read(&args.sbws_config).map_err(|error| {
            let advice = "give the configuration of sbws with --sbws-config";
            UsageError(format!("{error}; {advice}"))
        })?;
        let user = user_home(&args.sbws_config);
        let home = args.sbws_home.clone();
        let home = home.unwrap_or_else(|| config.home(&user));
        let file = match &args.sbws_home {
            Some(home) => home.join("v3bw"),
            None => config.bandwidth_files(&user),
        };
        Ok(Self {
            config,
            home,
            file: file.join(LATEST),
        })
    }
}

/// The home of the user that runs the sbws of this configuration.
fn user_home(config: &Path) -> PathBuf {
    // A user's own lies in the home; on Debian the user sbws runs it.
    if config.file_name().is_some_and(|name| name == ".sbws.ini")
        && let Some(home) = config.parent()
    {
        return home.to_owned();
    }
    let sbws = users().find(|user| user.name == "sbws");
    sbws.map_or_else(|| PathBuf::from("/var/lib/sbws"), |user| user.home)
}

/// A user of this machine.
struct User {
    name: String,
    id: u32,
    home: PathBuf,
}

/// The users in `/etc/passwd`.
fn users() -> impl Iterator<Item = User> {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let lines: Vec<User> = text.lines().filter_map(User::parse).collect();
    lines.into_iter()
}

impl User {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(':');
        Some(Self {
            name: fields.next()?.to_owned(),
            id: fields.nth(1)?.parse().ok()?,
            home: fields.nth(2)?.into(),
        })
    }
}

/// Takes over options, then results; 1 if something could not be read.
pub(super) fn run(
    args: &MigrateArgs,
    config: Option<&ConfigFile>,
    data: &DataDir,
) -> anyhow::Result<Exit> {
    let sbws = Sbws::find(args)?;
    let ours = config.map_or(Path::new(SYSTEM_CONFIG), ConfigFile::path);
    let ours = args.write_config.as_deref().unwrap_or(ours);
    let before = read_if_there(ours)?;
    let merged = merge(&before, &converted(&sbws.config))
        .with_context(|| format!("{}: it is no TOML", ours.display()))?;
    // No key is there twice under two spellings, and each value is one that bwscan takes.
    ConfigFile::parse(ours, &merged.text)?;
    if !args.dry_run && merged.text != before {
        write_in_place_of(ours, &merged.text)?;
    }
    show_options(&merged, &args.sbws_config, ours, args.dry_run)?;
    let whole = if args.dry_run {
        let files = Home::new(&sbws.home).files()?.len();
        print(format!("{}: {files} files of results", sbws.home.display()))?;
        true
    } else {
        data.create()?;
        let mut total = Total::default();
        total.add_home(&mut Store::open(data.store())?, &sbws.home)?;
        print(format!("from {}:", sbws.home.display()))?;
        total.show(false)?;
        total.is_whole()
    };
    show_steps(&sbws, ours, data)?;
    Ok(if whole {
        Exit::Success
    } else {
        Exit::NotGoodEnough
    })
}

fn read_if_there(path: &Path) -> anyhow::Result<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => read.with_context(|| format!("{}: cannot be read", path.display())),
    }
}

/// Replaces a file, whose owner and mode the new one has.
fn write_in_place_of(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let mut file = NamedTempFile::new_in(parent)?;
        file.write_all(text.as_bytes())?;
        match path.metadata() {
            Ok(before) => {
                chown(file.path(), Some(before.uid()), Some(before.gid()))?;
                file.as_file().set_permissions(before.permissions())?;
            }
            Err(_) => file
                .as_file()
                .set_permissions(Permissions::from_mode(0o644))?,
        }
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("{}: cannot be written", path.display()))
}

fn show_options(merged: &Merged, theirs: &Path, ours: &Path, dry_run: bool) -> anyhow::Result<()> {
    let (theirs, ours) = (theirs.display(), ours.display());
    let added = if dry_run { "would be added" } else { "added" };
    for (title, lines) in [
        (format!("{added} to {ours}:"), &merged.added),
        (format!("not added to {ours}:"), &merged.kept),
        (
            format!("of {theirs}, without a counterpart:"),
            &merged.notes,
        ),
    ] {
        if !lines.is_empty() {
            print(title)?;
        }
        for line in lines {
            print(format!("  {}", crate::text::printable(line)))?;
        }
    }
    Ok(())
}

/// Prints the road from here to the switch, and back.
fn show_steps(sbws: &Sbws, config: &Path, data: &DataDir) -> anyhow::Result<()> {
    let (theirs, config) = (sbws.file.display(), config.display());
    let ours = data.bandwidth_files().join(LATEST);
    let ours = ours.display();
    let service = service_user(data.path());
    let run = service.map_or(String::new(), |user| format!("runuser -u {user} -- "));
    print(format!(
        "\nnext, while sbws goes on:\n\
         \x20 1. see that all is well:     {run}bwscan doctor --config {config}\n\
         \x20 2. halve link_rate in {config} for the time that both run\n\
         \x20 3. start the scanner:        systemctl enable --now bwscan\n\
         \x20 4. compare after a day:      bwscan file diff --top 10 {theirs} {ours}\n\
         to switch:\n\
         \x20 5. in the authority's torrc: V3BandwidthsFile {ours}\n\
         \x20 6. make tor read it:         systemctl reload tor\n\
         \x20 7. stop sbws:                systemctl disable --now sbws\n\
         \x20 8. stop its hourly job:      sed -i 's/^[0-9]/#&/' /etc/cron.d/sbws"
    ))
}

/// The user of the service that has this directory, unless it is the one who asks.
fn service_user(directory: &Path) -> Option<String> {
    let owner = directory.metadata().ok()?.uid();
    if owner == rustix::process::geteuid().as_raw() {
        return None;
    }
    users().find(|user| user.id == owner).map(|user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_read() {
        let line = "sbws:x:104:107:sbws system user,,,:/var/lib/sbws:/usr/sbin/nologin";
        let user = User::parse(line).unwrap();
        assert_eq!((&*user.name, user.id), ("sbws", 104));
        assert_eq!(user.home, Path::new("/var/lib/sbws"));
        assert!(User::parse("").is_none() && User::parse("a:x:b:c:d:e").is_none());
        let own = Path::new("/home/scan/.sbws.ini");
        assert_eq!(user_home(own), Path::new("/home/scan"));
    }

    #[test]
    fn a_file_keeps_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bwscan.toml");
        write_in_place_of(&path, "a").unwrap();
        let mode = || path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o644);
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        write_in_place_of(&path, "b").unwrap();
        assert_eq!(mode(), 0o640);
        assert_eq!(std::fs::read(&path).unwrap(), b"b");
        assert_eq!(directory.path().read_dir().unwrap().count(), 1);
    }
}
