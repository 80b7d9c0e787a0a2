//! `bwscan doctor`: what is missing before the first start, or when something is wrong.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bw_file::Fingerprint;
use bw_measure::{
    Destination, Direct, Directory as _, Flow, HttpTransport, Order, PathError, Transport, TwoHops,
};
use bw_results::{FailureKind, NetworkSnapshot, Stage, Timings, UnixMillis};
use clap::Args as ClapArgs;
use serde_json::json;

use super::scan::{Settings, bootstrap};
use crate::args::Command;
use crate::cmd::ScanArgs;
use crate::command_line::CommandLine;
use crate::exit::Exit;
use crate::finding::{Finding, exit_of, print_findings};
use crate::paths::DataDir;
use crate::progress::{Progress, Style};
use crate::service::free_space;
use crate::text::{kilobytes, print_json, size};

/// Options of `bwscan doctor`. Everything else is that of the table `[scan]` of the
/// configuration file.
#[derive(Debug, ClapArgs)]
pub(crate) struct DoctorArgs {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A month of 8,000 relays takes some gigabytes.
const FREE: u64 = 5 << 30;
/// A scan has 100 circuits, with a socket to each relay, and arti's own.
const DESCRIPTORS: u64 = 1024;
/// The time for which each destination is downloaded from.
const SAMPLE: Duration = Duration::from_secs(3);

/// Looks at configuration, disk, limits, clock, network and destinations; 1 if something is
/// a problem.
pub(super) async fn run(args: &DoctorArgs, line: &CommandLine) -> anyhow::Result<Exit> {
    let data = DataDir::new(&line.args.global)?;
    let mut findings = Vec::new();
    let scan = super::run::part(&["scan"], line.config.as_ref(), &data)?;
    let Command::Scan(scan) = scan.command else {
        return Ok(Exit::Usage);
    };
    findings.push(match line.config.as_ref() {
        Some(file) => Finding::fine("config", file.path().display().to_string()),
        None => Finding::warning("config", "there is no configuration file")
            .advise("name one with --config; see bwscan.toml(5)"),
    });
    findings.push(directory(&data));
    findings.push(disk(&data));
    findings.push(descriptors());
    match Settings::new(&scan, &data) {
        Err(error) => findings.push(Finding::problem("options", format!("{error:#}"))),
        Ok(settings) => findings.extend(network(&scan, &settings).await),
    }
    if let Command::Generate(generate) =
        super::run::part(&["generate"], line.config.as_ref(), &data)?.command
    {
        findings.push(authority(&super::generate::output(&generate, &data)));
    }
    if args.json {
        print_json(&json!({ "findings": findings }))?;
    } else {
        print_findings(&findings)?;
    }
    Ok(exit_of(&findings))
}

/// Checks that the data directory can be written.
fn directory(data: &DataDir) -> Finding {
    let tried = data
        .create()
        .and_then(|()| Ok(tempfile::NamedTempFile::new_in(data.path())?));
    let path = data.path().display();
    match tried {
        Ok(_) => Finding::fine("data", format!("{path} can be written")),
        Err(error) => Finding::problem("data", format!("{path}: {error:#}"))
            .advise("give it to the user of bwscan, or name another with --data-dir"),
    }
}

fn disk(data: &DataDir) -> Finding {
    match free_space(data.path()) {
        Some(free) if free < FREE => Finding::warning("disk", format!("{} are free", size(free)))
            .advise("a month of the public network takes about 5 GB"),
        Some(free) => Finding::fine("disk", format!("{} are free", size(free))),
        None => Finding::warning("disk", "the free space cannot be told"),
    }
}

/// The line that an authority needs, and whether its tor can read the file on this machine.
fn authority(output: &Path) -> Finding {
    let latest = output.join(super::publication::LATEST);
    let text = format!("its torrc needs: V3BandwidthsFile {}", latest.display());
    let is_home = ["/home", "/root"]
        .iter()
        .any(|home| output.starts_with(home));
    if is_home {
        return Finding::warning("authority", text)
            .advise("Debian's tor cannot read below /home: name another with generate --output");
    }
    let closed = output.ancestors().find(|directory| {
        let mode = directory.metadata().map(|facts| MetadataExt::mode(&facts));
        mode.is_ok_and(|mode| mode & 0o001 == 0)
    });
    match closed {
        Some(directory) => Finding::warning("authority", text).advise(format!(
            "tor cannot enter {0}: chmod o+x {0}",
            directory.display()
        )),
        None => Finding::fine("authority", text),
    }
}

/// The limit of open files.
fn descriptors() -> Finding {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    match limit.current {
        Some(most) if most < DESCRIPTORS => {
            Finding::warning("files", format!("{most} files may be open at a time"))
                .advise("raise it: ulimit -n 4096, or LimitNOFILE= in the unit")
        }
        Some(most) => Finding::fine("files", format!("{most} files may be open at a time")),
        None => Finding::fine("files", "any number of files may be open"),
    }
}

/// Tor and the destinations.
async fn network(scan: &ScanArgs, settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let progress = Progress::new(Style::Quiet);
    let reached = async {
        let client = bootstrap(settings, &progress).await?;
        client.directory()?.snapshot().await
    };
    let network = match reached.await {
        Ok(network) => {
            findings.extend(consensus(&network));
            Some(network)
        }
        Err(error) => {
            findings.push(Finding::problem("tor", error.to_string()));
            None
        }
    };
    let mut fastest = 0.0_f64;
    for destination in &settings.destinations {
        let (rate, seen) = of_destination(destination, settings, network.as_ref()).await;
        fastest = fastest.max(rate.unwrap_or(0.0));
        findings.extend(seen);
    }
    findings.push(link(scan.link_rate.value() as f64, fastest));
    findings
}

/// The link as configured, against the rate of the fastest destination.
fn link(configured: f64, seen: f64) -> Finding {
    if configured == 0.0 {
        return Finding::warning("link", "no limit is set")
            .advise("set --link-rate: others share the link");
    }
    let mut text = format!(
        "{} kB/s at most are used (--link-rate)",
        kilobytes(configured)
    );
    if seen > 0.0 {
        text.push_str(&format!(
            "; {} kB/s came from a destination",
            kilobytes(seen)
        ));
    }
    if seen > 0.0 && seen < configured / 2.0 {
        Finding::warning("link", text)
            .advise("lower --link-rate to what line and destinations carry, or add destinations")
    } else if seen > configured * 2.0 {
        Finding::fine("link", text)
            .advise("raise --link-rate if others leave it: rounds are shorter then")
    } else {
        Finding::fine("link", text)
    }
}

/// The consensus, and the clock against it.
fn consensus(network: &NetworkSnapshot) -> Vec<Finding> {
    let now = UnixMillis::from(SystemTime::now());
    let relays = network.relays.len();
    let descriptors = network.relays.iter();
    let known = descriptors.filter(|relay| relay.descriptor.is_some());
    let mut findings = vec![Finding::fine(
        "tor",
        format!(
            "{relays} relays in the consensus, {} with a descriptor",
            known.count()
        ),
    )];
    let is_wrong = network.valid_after.is_ahead_of(now) || now > network.valid_until;
    findings.push(if is_wrong {
        Finding::problem("clock", "the consensus is not of this time")
            .advise("set the clock, for example with timedatectl set-ntp true")
    } else {
        Finding::fine("clock", "it agrees with the consensus")
    });
    findings
}

/// One destination: its rate from here without Tor, if it works, and the exits that reach it.
async fn of_destination(
    destination: &Destination,
    settings: &Settings,
    network: Option<&Arc<NetworkSnapshot>>,
) -> (Option<f64>, Vec<Finding>) {
    let mut findings = Vec::new();
    if let Some(network) = network {
        let port = destination.port();
        let exits = network
            .relays
            .iter()
            .filter(|relay| relay.flags.exit && !relay.flags.bad_exit && relay.exits_to(port));
        let exits = exits.count();
        let text = format!("{destination}: {exits} exits allow port {port}");
        findings.push(if exits == 0 {
            Finding::problem("exits", text).advise("serve on port 443 or 80")
        } else {
            Finding::fine("exits", text)
        });
    }
    let sampled = sample(destination, settings).await;
    let rate = sampled.as_ref().ok().copied();
    findings.push(match sampled {
        Ok(rate) => {
            let key = if settings.key.is_some() {
                ", and its content is right"
            } else {
                ""
            };
            let rate = kilobytes(rate);
            let text = format!("{destination}: {rate} kB/s from here without Tor{key}");
            Finding::fine("destination", text)
        }
        Err(error) => {
            let text = format!("{destination}: {}: {}", error.stage, error.detail);
            Finding::problem("destination", text).advise(advice(&error))
        }
    });
    (rate, findings)
}

fn advice(error: &PathError) -> &'static str {
    match (error.stage, error.kind) {
        (Stage::Begin, _) => "start the server, and open its port in the firewall",
        (Stage::Tls, _) => "renew its certificate, or name its authority with --ca-file",
        (Stage::Http, FailureKind::Range) => "use a server that answers Range requests",
        (Stage::Http, _) => "correct the path in the URL",
        (Stage::Content, _) => "use the same key here and there (--destination-key-file)",
        _ => "try it with curl from another machine",
    }
}

/// The most that is downloaded: a fast server sends no more at once than a circuit may hold.
const MOST: u64 = 8 << 20;

/// Downloads for some seconds without any relay; returns bytes per second.
async fn sample(destination: &Destination, settings: &Settings) -> Result<f64, PathError> {
    let mut transport = HttpTransport::new(Direct, settings.tls.clone());
    transport.key.clone_from(&settings.key);
    let nobody = Fingerprint::from_bytes([0; 20]);
    let path = TwoHops {
        entry: nobody,
        exit: nobody,
    };
    let mut timings = Timings::default();
    let order = Order::download(destination, MOST.min(settings.transfer.max_bytes));
    let mut flow = transport.open(path, &order, &mut timings).await?;
    flow.begin(&mut timings).await?;
    let (begin, mut bytes) = (Instant::now(), 0);
    let sampling = async {
        while flow.ready().await? {
            bytes += flow.take(u64::MAX);
        }
        Ok(())
    };
    match tokio::time::timeout(SAMPLE, sampling).await {
        Ok(Err(error)) => Err(error),
        _ => Ok(bytes as f64 / begin.elapsed().as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::finding::Level;

    #[test]
    fn a_link_is_judged_by_what_came() {
        let level = |configured, seen| link(configured, seen).level;
        assert_eq!(level(0.0, 5e6), Level::Warning);
        assert_eq!(level(12.5e6, 5e6), Level::Warning);
        assert_eq!(level(12.5e6, 11e6), Level::Fine);
        assert_eq!(level(12.5e6, 0.0), Level::Fine, "nothing is known");
        assert!(link(12.5e6, 90e6).advice.unwrap().contains("raise"));
    }

    #[test]
    fn a_directory_that_tor_cannot_enter_is_named() {
        let place = tempfile::tempdir_in("/var/tmp").unwrap();
        let output = place.path().join("v3bw");
        std::fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
        assert_eq!(authority(&output).level, Level::Fine);
        std::fs::set_permissions(place.path(), Permissions::from_mode(0o750)).unwrap();
        let finding = authority(&output);
        let advice = finding.advice.unwrap();
        assert!(
            advice.contains(&place.path().display().to_string()),
            "{advice}"
        );
        assert_eq!(authority(Path::new("/home/a/v3bw")).level, Level::Warning);
    }
}
