//! `bwscan testnet`: a private Tor network on this machine.

mod args;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use bw_testnet::{
    Event, Lifetime, Limit, LineCommand, LoadPlan, LoadTotals, Network, Observed, Plan,
    PlanBuilder, Prior, Seeded, Status, serve_lines,
};
use indicatif::ProgressBar;

use crate::exit::{Exit, UsageError};
use crate::paths::DataDir;
use crate::signals::cancel_on_signal;
use crate::text::{kilobytes, print, print_json, print_json_line, size, table};

pub(crate) use self::args::{
    LimitArg, NetworkArgs, ObservedArg, TestnetCommand, TestnetLoadArgs, TestnetPlace,
    TestnetUpArgs,
};

/// By when all relays have tested their bandwidth.
const SELF_TESTS: Duration = Duration::from_secs(180);
/// The interval at which the load is looked at.
const GLANCE: Duration = Duration::from_secs(1);
/// The number of such looks from one line of output to the next.
const GLANCES: usize = 10;

/// Brings a network up or down, shows it, or puts load on it.
pub(super) async fn run(command: &TestnetCommand, data: &DataDir) -> anyhow::Result<Exit> {
    match command {
        TestnetCommand::Up(args) => up(args, data).await,
        TestnetCommand::Status { place, json } => {
            let status = Network::open(directory(place, data))?.status().await;
            show(&status, *json)?;
            Ok(exit(&status))
        }
        TestnetCommand::Load(args) => load(args, data).await,
        TestnetCommand::Down { place } => {
            let directory = directory(place, data);
            Network::open(&directory)?.down().await?;
            print(format!("the network in {} is down", directory.display()))?;
            Ok(Exit::Success)
        }
        TestnetCommand::Lines { place } => {
            serve_lines(directory(place, data)).await?;
            Ok(Exit::Success)
        }
    }
}

fn directory(place: &TestnetPlace, data: &DataDir) -> PathBuf {
    place.directory.clone().unwrap_or_else(|| data.testnet())
}

async fn up(args: &TestnetUpArgs, data: &DataDir) -> anyhow::Result<Exit> {
    let directory = directory(&args.place, data);
    let lines = LineCommand::new(
        std::env::current_exe()?,
        ["--no-config", "testnet", "lines"],
    );
    let plan = plan(&args.network, |builder| {
        let builder = builder.directory(&directory).line_command(lines);
        builder.lifetime(Lifetime::Detached)
    })?;
    let cancel = cancel_on_signal()?;
    let settled = async {
        let network = bring_up(&plan).await?;
        if args.settle {
            writeln!(
                std::io::stderr(),
                "testnet: waiting for the relays' tests of their bandwidth"
            )?;
            network.wait_for_self_tests(SELF_TESTS).await?;
        }
        anyhow::Ok(network)
    };
    let Some(network) = cancel.run_until_cancelled(settled).await else {
        return Ok(Exit::Interrupted);
    };
    let network = network?;
    let status = network.status().await;
    show(&status, args.json)?;
    if !args.json {
        print(format!(
            "\nscan it with:   bwscan scan --tor-config {} --destination http://127.0.0.1:8000/\n\
             (a destination: bwscan serve)\ntrue capacities: {}\nstop it with:   bwscan testnet \
             down {}",
            network.client_config_file().display(),
            network.capacities_file().display(),
            directory.display(),
        ))?;
    }
    Ok(exit(&status))
}

fn exit(status: &Status) -> Exit {
    if status.ready {
        Exit::Success
    } else {
        Exit::NotGoodEnough
    }
}

/// Clients that download until a signal comes or their time is up.
async fn load(args: &TestnetLoadArgs, data: &DataDir) -> anyhow::Result<Exit> {
    let network = Network::open(directory(&args.place, data))?;
    let plan = LoadPlan::new(&args.url)
        .clients(args.clients)
        .share(args.share)
        .seed(args.seed);
    let cancel = cancel_on_signal()?;
    let Some(load) = cancel.run_until_cancelled(network.load(&plan)).await else {
        return Ok(Exit::Interrupted);
    };
    let load = load?;
    let work = async {
        for glances in 0_usize.. {
            load.check()?;
            if glances.is_multiple_of(GLANCES) {
                show_load(&load.totals(), args.json)?;
            }
            tokio::time::sleep(GLANCE).await;
        }
        anyhow::Ok(())
    };
    let limit = args.time.unwrap_or(Duration::MAX);
    let ended = cancel
        .run_until_cancelled(tokio::time::timeout(limit, work))
        .await;
    let totals = load.stop().await;
    if let Some(Ok(result)) = ended {
        result?;
    }
    show_load(&totals, args.json)?;
    Ok(Exit::Success)
}

fn show_load(totals: &LoadTotals, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json_line(totals);
    }
    print(format!(
        "{:>6.0} s: {} in {} downloads, {} failed; {} kB/s, {:.0} % of the network's capacity",
        totals.seconds,
        size(totals.bytes),
        totals.downloads,
        totals.failures,
        kilobytes(totals.rate),
        totals.share * 100.0,
    ))
}

/// The plan that the options describe, changed by `adapt`.
pub(super) fn plan(
    args: &NetworkArgs,
    adapt: impl FnOnce(PlanBuilder) -> PlanBuilder,
) -> anyhow::Result<Plan> {
    let rates = args.min_rate..=args.max_rate;
    if rates.is_empty() {
        return Err(UsageError("--min-rate is above --max-rate".to_owned()).into());
    }
    let mut builder = Plan::builder()
        .authorities(args.authorities)
        .seeded(Seeded::new(args.seed, args.relays, args.exits, rates))
        .burst_factor(args.burst)
        .refill_interval(args.refill_interval)
        .voting_interval(args.voting_interval)
        .observed(match args.observed {
            ObservedArg::True => Observed::History,
            ObservedArg::None => Observed::Live,
        });
    builder = match args.limit_by {
        LimitArg::Node => builder.limit(Limit::Node),
        LimitArg::Relay => builder.limit(Limit::Relay),
        LimitArg::Line => builder.limit(Limit::Line),
        LimitArg::Mixed => builder.mixed_limits(args.seed),
    };
    if let Some(delays) = &args.delay {
        builder = builder.delay(delays.clone(), args.seed);
    }
    if let Some(sigma) = args.observed_error {
        builder = builder.observed_error(Prior::new(sigma, args.seed));
    }
    if let Some(factor) = args.liar {
        builder = builder.liar(factor);
    }
    if let Some(sigma) = args.prior {
        builder = builder.prior(Prior::new(sigma, args.seed));
    }
    if let Some(tor) = &args.tor {
        builder = builder.tor(tor);
    }
    Ok(adapt(builder).build()?)
}

/// Brings a network up and shows on standard error how that goes.
pub(super) async fn bring_up(plan: &Plan) -> anyhow::Result<Network> {
    let bar = ProgressBar::no_length();
    let plain = !std::io::stderr().is_terminal();
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut last = None;
    let result = Network::up(plan, |event: Event| {
        let text = event.to_string();
        if plain {
            // Counts pass through many values; a log needs the steps only.
            let step = std::mem::discriminant(&event);
            if last != Some(step) {
                let _ = writeln!(std::io::stderr(), "testnet: {text}");
            }
            last = Some(step);
        } else {
            bar.set_message(text);
        }
    })
    .await;
    bar.finish_and_clear();
    Ok(result?)
}

fn show(status: &Status, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(status);
    }
    let mut table = table([
        "node",
        "role",
        "address",
        "rate kB/s",
        "by",
        "delay ms",
        "process",
        "weight",
        "flags",
    ]);
    for node in &status.nodes {
        let record = &node.record;
        table.add_row([
            record.nickname.clone(),
            format!("{:?}", record.role).to_lowercase(),
            record.or_address().to_string(),
            (record.rate.value() / 1000).to_string(),
            format!("{:?}", record.limit).to_lowercase(),
            record.delay_ms.to_string(),
            format!(
                "{:?} {}",
                node.state,
                node.pid.map_or(String::new(), |pid| pid.to_string())
            )
            .to_lowercase(),
            node.weight.map_or("-".to_owned(), |weight| {
                let unmeasured = if node.unmeasured { " unmeasured" } else { "" };
                format!("{}{unmeasured}", weight.value())
            }),
            node.flags
                .as_ref()
                .map_or("not listed".to_owned(), |flags| flags.join(" ")),
        ]);
    }
    print(table)?;
    print(format!(
        "{} tor {} in {}",
        if status.ready { "ready;" } else { "NOT ready;" },
        status.tor_version,
        status.directory.display()
    ))?;
    status
        .problems()
        .try_for_each(|problem| print(format!("not ready because {problem}")))
}
