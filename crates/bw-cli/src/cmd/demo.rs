//! `bwscan demo`: the whole job on a private network of real tor processes,
//! checked at its end in the authorities' votes and their consensus.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use bw_aggregate::Scaled;
use bw_file::{Fingerprint, KilobytesPerSecond, TorJudge, UnixTime, VoteLines};
use bw_measure::{Destination, Tls};
use bw_server::FileServer;
use bw_testnet::{Network, Role, StatusDocument};
use clap::Args as ClapArgs;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::generate::{self, Generated};
use super::publication::LATEST;
use super::report::{self, Sources};
use super::scan::{Settings, scan_rounds};
use super::serve::self_signed;
use super::testnet::{bring_up, plan};
use crate::args::OUTPUT;
use crate::cmd::{NetworkArgs, Scale, ScalingArgs};
use crate::exit::{Exit, UsageError};
use crate::paths::DataDir;
use crate::progress::{Progress, Style};
use crate::signals::cancel_on_signal;
use crate::text::{kilobytes, print, print_json, size, table};

#[derive(Debug, ClapArgs)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Put the results in this directory, which is made anew.
    #[arg(short, long, default_value = "demo", value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Measure against an https server instead of a plain http one.
    #[arg(long)]
    pub(crate) https: bool,
    /// Compute weights with this formula.
    #[arg(long, value_enum, default_value_t = Scale::Capacity, value_name = "METHOD")]
    pub(crate) scale: Scale,
    /// Print the report as JSON.
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) json: bool,
}

/// Where the vote that belongs to the present consensus is found (dir-spec).
const VOTE: &str = "/tor/status-vote/current/authority";
/// Marks a directory as one that a demo made, and may make anew.
const MARK: &str = "bwscan-demo.json";

/// The report of a demo.
#[derive(Debug, Serialize)]
struct Report {
    /// True if every check was passed.
    passed: bool,
    checks: Vec<Check>,
    /// Half the sum of the differences of measured and true shares.
    network_weight_error: f64,
    /// The same of the weights in the consensus.
    network_weight_error_of_weights: f64,
    /// Standard deviation of ln(measured / true).
    spread: f64,
    /// Seconds.
    scan_time: f64,
    bytes: u64,
    bandwidth_file: PathBuf,
    relays: Vec<Row>,
}

/// Something that must hold in the end.
#[derive(Debug, Serialize)]
struct Check {
    what: String,
    passed: bool,
    /// The defects, if there are any.
    detail: Vec<String>,
}

impl Check {
    fn new(what: impl Into<String>, detail: Vec<String>) -> Self {
        Self {
            what: what.into(),
            passed: detail.is_empty(),
            detail,
        }
    }
}

/// One relay: what is true, what was measured, what became of it.
#[derive(Debug, Serialize)]
struct Row {
    nickname: String,
    fingerprint: Fingerprint,
    exit: bool,
    /// Bytes per second.
    true_rate: u64,
    /// Bytes per second.
    measured: Option<f64>,
    /// kB/s.
    weight_in_file: Option<u64>,
    /// kB/s.
    weight_in_consensus: Option<u64>,
    unmeasured_in_consensus: bool,
}

/// Runs the demo; fails if one of its checks does.
pub(super) async fn run(args: &DemoArgs) -> anyhow::Result<Exit> {
    let cancel = cancel_on_signal()?;
    // Dropping the work ends the network's processes.
    match cancel.run_until_cancelled(demo(args)).await {
        Some(result) => result,
        None => Ok(Exit::Interrupted),
    }
}

async fn demo(args: &DemoArgs) -> anyhow::Result<Exit> {
    let output = prepare(&args.output)?;
    let style = if args.json {
        Style::Quiet
    } else {
        Style::Human
    };
    let progress = Progress::new(style);
    let server = CancellationToken::new();
    // However this ends, the server ends with it.
    let _stop_server = server.clone().drop_guard();
    let (destination, tls) = serve(args, &output, &server).await?;

    progress.say("bringing up a private Tor network");
    let plan = plan(&args.network, |builder| {
        builder.directory(output.join("network"))
    })?;
    let network = bring_up(&plan).await?;
    std::fs::write(output.join("capacities.json"), network.capacities_json())?;

    let data = DataDir::at(output.join("data"));
    let begin = Instant::now();
    let bytes = scan(&network, &data, destination, tls, &progress).await?;
    let scan_time = begin.elapsed().as_secs_f64();
    progress.finish();

    progress.say("writing the bandwidth file");
    let written = write_file(args.scale, &data, &output)?;
    progress.say("waiting for the authorities to vote with it");
    let file = std::fs::read(&written.path)?;
    let installed = SystemTime::now();
    network.install_bandwidth_file(&file)?;
    let consensus = next_consensus(&network, installed).await?;
    let mut checks = votes(&network, &file, &written.scaled).await?;
    checks.extend(compare(&network, &written.scaled, &consensus));

    let relays = rows(&network, &written.scaled, &consensus);
    let (network_weight_error, spread) = errors(&relays, |row| row.measured);
    let (network_weight_error_of_weights, _) =
        errors(&relays, |row| Some(row.weight_in_consensus? as f64));
    let report = Report {
        passed: checks.iter().all(|check| check.passed),
        checks,
        network_weight_error,
        network_weight_error_of_weights,
        spread,
        scan_time,
        bytes,
        bandwidth_file: written.path,
        relays,
    };
    network.down().await?;
    std::fs::write(
        output.join("report.json"),
        serde_json::to_string_pretty(&report)?,
    )?;
    let pages = write_pages(args.scale, &data, &output)?;
    show(&report, &output, args.json)?;
    if !args.json {
        print(format!("open {} in a browser to see them", pages.display()))?;
    }
    Ok(if report.passed {
        Exit::Success
    } else {
        Exit::NotGoodEnough
    })
}

/// Makes the output directory anew, but only if it is ours to remove.
fn prepare(output: &Path) -> anyhow::Result<PathBuf> {
    let context = || format!("{}: the directory cannot be made", output.display());
    if output.join(MARK).is_file() {
        std::fs::remove_dir_all(output).with_context(context)?;
    } else if output
        .read_dir()
        .is_ok_and(|mut entries| entries.next().is_some())
    {
        let text = format!(
            "{} is not empty and was not made by a demo; give another --output",
            output.display()
        );
        return Err(UsageError(text).into());
    }
    std::fs::create_dir_all(output).with_context(context)?;
    std::fs::write(output.join(MARK), "{\"made_by\": \"bwscan demo\"}\n").with_context(context)?;
    output.canonicalize().with_context(context)
}

/// Starts a web server to measure against.
async fn serve(
    args: &DemoArgs,
    output: &Path,
    stop: &CancellationToken,
) -> anyhow::Result<(Destination, Tls)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (certificate, tls, scheme) = if args.https {
        let ca = output.join("server.pem");
        let certificate = self_signed("127.0.0.1", &ca)?;
        (Some(certificate), Tls::with_ca_file(&ca)?, "https")
    } else {
        (None, Tls::with_public_roots()?, "http")
    };
    tokio::spawn(FileServer::new(1 << 30).serve(listener, certificate, stop.clone()));
    Ok((
        Destination::new(&format!("{scheme}://{address}/1GiB"))?,
        tls,
    ))
}

/// Scans the network once; returns the bytes that took.
async fn scan(
    network: &Network,
    data: &DataDir,
    destination: Destination,
    tls: Tls,
    progress: &Progress,
) -> anyhow::Result<u64> {
    data.create()?;
    let config = data.path().join("arti.toml");
    let tor = data.tor();
    let text = network.client_config_toml(&tor.join("cache"), &tor.join("state"));
    std::fs::write(&config, text)?;
    let mut settings = Settings::with_defaults(data.clone(), vec![destination])?;
    "demo".clone_into(&mut settings.scanner);
    settings.tls = tls;
    settings.tor_config = vec![config];
    settings.bootstrap_timeout = Duration::from_secs(60);
    Ok(
        scan_rounds(settings, progress, progress, &CancellationToken::new())
            .await?
            .bytes,
    )
}

/// The making of weights, for the bandwidth file and for the report.
fn scaling(scale: Scale) -> ScalingArgs {
    ScalingArgs {
        scale: Some(scale),
        // No relay of a network of a dozen can be held below a twentieth of it.
        max_share: Some(1.0),
        ..ScalingArgs::default()
    }
}

/// Writes the bandwidth file, as `bwscan generate` does.
fn write_file(scale: Scale, data: &DataDir, output: &Path) -> anyhow::Result<Generated> {
    let facts = generate::own_facts();
    generate::write(&data.store(), &scaling(scale), facts, &output.join("v3bw"))
}

/// Writes the pages, as `bwscan report` does; returns the first one's path.
fn write_pages(scale: Scale, data: &DataDir, output: &Path) -> anyhow::Result<PathBuf> {
    let sources = Sources {
        files: Vec::new(),
        v3bw: Some(output.join("v3bw")),
        truth: Some(output.join("capacities.json")),
        scaling: scaling(scale),
    };
    Ok(report::write(&sources, &output.join("report"), data)?.first_page)
}

/// The first consensus that comes of votes made after `installed`.
async fn next_consensus(
    network: &Network,
    installed: SystemTime,
) -> anyhow::Result<StatusDocument> {
    let now = network.consensus().await?;
    // Votes are made this long before the consensus is valid; a second more,
    // since an authority may be reading its file just now.
    let lead = now.vote_delay + now.signature_delay + Duration::from_secs(1);
    let patience = network.voting_interval() * 3 + lead;
    Ok(network
        .wait_for_consensus(installed + lead, patience, |_| true)
        .await?)
}

/// Checks each authority's vote.
async fn votes(network: &Network, file: &[u8], scaled: &Scaled) -> anyhow::Result<Vec<Check>> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let expected = TorJudge::new(UnixTime::new(i64::try_from(now.as_secs())?))
        .judge(file)
        .vote_lines();
    let weights = weights(scaled);
    let mut checks = Vec::new();
    for authority in network.authorities() {
        let name = authority.record().nickname.clone();
        let vote = authority.get(VOTE).await?;
        let lines = VoteLines::parse(&vote);
        let mut wrong = Vec::new();
        if lines.digest.is_none() || lines.digest != expected.digest {
            wrong.push(format!(
                "bandwidth-file-digest is {:?}, our file's is {:?}",
                lines.digest, expected.digest
            ));
        }
        if lines.headers.is_none() || lines.headers != expected.headers {
            let text = |line: &Option<Vec<u8>>| {
                line.as_deref()
                    .map(|line| String::from_utf8_lossy(line).into_owned())
            };
            let (found, ours) = (text(&lines.headers), text(&expected.headers));
            wrong.push(format!(
                "bandwidth-file-headers is {found:?}, ours is {ours:?}"
            ));
        }
        checks.push(Check::new(
            format!("{name}: the vote has our file's digest and headers"),
            wrong,
        ));
        let wrong = weights.iter().filter_map(|(relay, weight)| {
            let measured = lines.measured.get(relay);
            (measured != Some(weight)).then(|| {
                let voted = measured.map_or("nothing".to_owned(), ToString::to_string);
                format!("{relay}: voted {voted}, our file has {weight}")
            })
        });
        checks.push(Check::new(
            format!(
                "{name}: Measured= is our bw for each of {} relays",
                weights.len()
            ),
            wrong.collect(),
        ));
    }
    Ok(checks)
}

/// Checks the consensus, and that every relay was measured.
fn compare(network: &Network, scaled: &Scaled, consensus: &StatusDocument) -> Vec<Check> {
    let weights = weights(scaled);
    let relays = network
        .nodes()
        .filter(|node| node.role() != Role::Authority);
    let unmeasured = relays
        .filter(|node| !weights.contains_key(&node.record().fingerprint))
        .map(|node| {
            let answer = scaled
                .relay(&node.record().fingerprint)
                .map(|relay| &relay.answer);
            format!("{}: {answer:?}", node.nickname())
        })
        .collect();
    let entry = |relay| consensus.relays.get(relay);
    let still_unmeasured = weights
        .keys()
        .filter(|relay| entry(relay).is_none_or(|entry| entry.unmeasured))
        .map(ToString::to_string)
        .collect();
    let wrong = weights
        .iter()
        .filter(|&(relay, weight)| entry(relay).and_then(|entry| entry.bandwidth) != Some(*weight))
        .map(|(relay, weight)| format!("{relay}: our file has {weight}"))
        .collect();
    vec![
        Check::new("every relay has a weight in our file", unmeasured),
        Check::new(
            "no measured relay is Unmeasured=1 in the consensus",
            still_unmeasured,
        ),
        Check::new("the consensus has our weights", wrong),
    ]
}

fn weights(scaled: &Scaled) -> BTreeMap<Fingerprint, KilobytesPerSecond> {
    let weight = |relay: &bw_aggregate::ScaledRelay| {
        Some((relay.aggregate.fingerprint, relay.answer.weight()?))
    };
    scaled.relays.iter().filter_map(weight).collect()
}

fn rows(network: &Network, scaled: &Scaled, consensus: &StatusDocument) -> Vec<Row> {
    let weights = weights(scaled);
    let mut rows: Vec<Row> = network
        .nodes()
        .filter(|node| node.role() != Role::Authority)
        .map(|node| {
            let record = node.record();
            let fingerprint = record.fingerprint;
            let aggregate = scaled.relay(&fingerprint).map(|relay| &relay.aggregate);
            let entry = consensus.relays.get(&fingerprint);
            Row {
                nickname: record.nickname.clone(),
                fingerprint,
                exit: record.role == Role::Exit,
                true_rate: record.rate.value(),
                measured: aggregate
                    .and_then(|aggregate| aggregate.statistics.as_ref())
                    .map(|statistics| statistics.mean.value() as f64),
                weight_in_file: weights.get(&fingerprint).map(|weight| weight.value()),
                weight_in_consensus: entry
                    .and_then(|entry| entry.bandwidth)
                    .map(KilobytesPerSecond::value),
                unmeasured_in_consensus: entry.is_some_and(|entry| entry.unmeasured),
            }
        })
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.true_rate));
    rows
}

/// The network weight error of what was `found`, measured rates or weights, and the
/// standard deviation of ln(found / true).
fn errors(rows: &[Row], found: impl Fn(&Row) -> Option<f64>) -> (f64, f64) {
    let pairs: Vec<(f64, f64)> = rows
        .iter()
        .filter_map(|row| {
            Some((
                found(row).filter(|value| *value > 0.0)?,
                row.true_rate as f64,
            ))
        })
        .collect();
    if pairs.is_empty() {
        return (f64::NAN, f64::NAN);
    }
    let measured: f64 = pairs.iter().map(|(measured, _)| measured).sum();
    let truth: f64 = pairs.iter().map(|(_, truth)| truth).sum();
    let error = pairs
        .iter()
        .map(|(m, t)| (m / measured - t / truth).abs())
        .sum::<f64>()
        / 2.0;
    let logs: Vec<f64> = pairs.iter().map(|(m, t)| (m / t).ln()).collect();
    let mean = logs.iter().sum::<f64>() / logs.len() as f64;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / logs.len() as f64;
    (error, variance.sqrt())
}

fn show(report: &Report, output: &Path, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(report);
    }
    let mut table = table([
        "relay",
        "role",
        "true kB/s",
        "measured",
        "ratio",
        "bw in our file",
        "in the consensus",
    ]);
    for row in &report.relays {
        let number = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
        let truth = row.true_rate as f64;
        table.add_row([
            row.nickname.clone(),
            if row.exit { "exit" } else { "relay" }.to_owned(),
            kilobytes(truth),
            row.measured.map_or("-".to_owned(), kilobytes),
            row.measured
                .map_or("-".to_owned(), |rate| format!("{:.2}", rate / truth)),
            number(row.weight_in_file),
            format!(
                "{}{}",
                number(row.weight_in_consensus),
                if row.unmeasured_in_consensus {
                    " UNMEASURED"
                } else {
                    ""
                }
            ),
        ]);
    }
    print(format!("\n{table}\n"))?;
    print(format!(
        "scan: {:.0} s, {} received; spread of ln(measured/true) {:.3}\n\
         network weight error: {:.3} of the measured rates, {:.3} of the weights in the consensus\n",
        report.scan_time,
        size(report.bytes),
        report.spread,
        report.network_weight_error,
        report.network_weight_error_of_weights
    ))?;
    for check in &report.checks {
        print(format!(
            "{}  {}",
            if check.passed { "ok    " } else { "FAILED" },
            check.what
        ))?;
        for line in &check.detail {
            print(format!("        {line}"))?;
        }
    }
    print(format!(
        "\n{}; results are in {}: report.json, capacities.json, v3bw/{}, data/results.sqlite",
        if report.passed {
            "all checks passed"
        } else {
            "THE DEMO FAILED"
        },
        output.display(),
        LATEST
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(true_rate: u64, measured: f64) -> Row {
        Row {
            nickname: String::new(),
            fingerprint: Fingerprint::from_bytes([0; 20]),
            exit: false,
            true_rate,
            measured: Some(measured),
            weight_in_file: None,
            weight_in_consensus: None,
            unmeasured_in_consensus: false,
        }
    }

    #[test]
    fn a_common_factor_is_no_error() {
        let (error, spread) = errors(&[row(100, 80.0), row(300, 240.0)], |row| row.measured);
        assert!(error.abs() < 1e-12 && spread.abs() < 1e-12);
        // Shares 1/4 and 3/4 measured as 1/2 and 1/2.
        let (error, _) = errors(&[row(100, 50.0), row(300, 50.0)], |row| row.measured);
        assert!((error - 0.25).abs() < 1e-12);
    }

    #[test]
    fn only_its_own_output_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("precious"), "x").unwrap();
        assert!(prepare(directory.path()).is_err());
        assert!(directory.path().join("precious").exists());
        let ours = directory.path().join("ours");
        prepare(&ours).unwrap();
        std::fs::write(ours.join("old"), "x").unwrap();
        prepare(&ours).unwrap();
        assert!(!ours.join("old").exists());
    }
}
