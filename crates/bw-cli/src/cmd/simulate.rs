//! `bwscan simulate`: the closed loop of weights and load, day by day.

use std::path::PathBuf;

use anyhow::Context;
use bw_aggregate::Method;
use bw_loop::{Attack, Day, Run, Setting, plot, run_all};
use clap::Args as ClapArgs;
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde::Serialize;
use serde_json::json;

use crate::args::{COMMON, Format, OUTPUT};
use crate::cmd::Scale;
use crate::exit::{Exit, UsageError};
use crate::text::{kilobytes, print, print_csv, print_json, table};

#[derive(Debug, ClapArgs)]
#[command(next_help_heading = COMMON)]
pub(crate) struct SimulateArgs {
    /// Compute weights with these formulas, each in a run of its own; with commas.
    #[arg(long = "scale", value_enum, value_delimiter = ',',
          default_values_t = [Scale::Torflow, Scale::TorflowPid, Scale::Capacity],
          value_name = "METHOD")]
    pub(crate) methods: Vec<Scale>,
    /// Simulate this many relays.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(20..=20_000),
          value_name = "N")]
    pub(crate) relays: u32,
    /// Let clients want this share of all relays' capacity; with commas for
    /// several runs.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "0.5",
        value_name = "SHARE"
    )]
    pub(crate) utilisation: Vec<f64>,
    /// Simulate this many days.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(8..=1000),
          value_name = "DAYS")]
    pub(crate) days: u32,
    /// Use this many authorities with a scanner each.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9),
          value_name = "N")]
    pub(crate) scanners: u32,
    /// Let relays attack: none, lie=FACTOR, favour, machine=RELAYS, helpers=SHARE,
    /// withhold, flood=SHARE, stall, or several joined with +; with commas for several
    /// runs.
    #[arg(
        long = "attack",
        value_delimiter = ',',
        default_value = "none",
        value_name = "ATTACK"
    )]
    pub(crate) attacks: Vec<Attack>,
    /// Let what a relay says of itself raise its weight by 1/(1 - SHARE) at most
    /// [default: capacity: 0.25; torflow, torflow-pid: no bound].
    #[arg(long, value_name = "SHARE")]
    pub(crate) bound: Option<f64>,
    /// Make everything random from this seed.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,
    /// Draw the days as SVG files into this directory.
    #[arg(long, help_heading = OUTPUT, value_name = "DIR")]
    pub(crate) plot: Option<PathBuf>,
    /// Print in this format; csv has a line for each day.
    #[arg(long, value_enum, default_value_t = Format::Table, help_heading = OUTPUT)]
    pub(crate) format: Format,
    /// Print JSON, the same as --format json.
    #[arg(long, conflicts_with = "format", help_heading = OUTPUT)]
    pub(crate) json: bool,
}

/// Runs every method at every utilisation against every attack.
pub(super) fn run(args: &SimulateArgs) -> anyhow::Result<Exit> {
    let settings = settings(args)?;
    let days = settings.iter().map(|setting| u64::from(setting.days)).sum();
    let bar = ProgressBar::with_draw_target(Some(days), ProgressDrawTarget::stderr());
    bar.set_message("simulated days");
    let runs = run_all(&settings, || bar.inc(1));
    bar.finish_and_clear();
    if let Some(directory) = &args.plot {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("{}: the directory cannot be made", directory.display()))?;
        plot(&runs, directory)?;
    }
    let format = if args.json { Format::Json } else { args.format };
    match format {
        Format::Json => print_json(&json!({ "seed": args.seed, "runs": runs }))?,
        Format::Csv => print_csv(runs.iter().flat_map(|run| {
            let days = run.days.iter();
            days.map(move |day| Row::new(run, day))
        }))?,
        Format::Table => print_table(&runs)?,
    }
    Ok(Exit::Success)
}

fn settings(args: &SimulateArgs) -> Result<Vec<Setting>, UsageError> {
    let possible = |used: &f64| (0.0..=2.0).contains(used);
    if !args.utilisation.iter().all(possible) {
        return Err(UsageError("--utilisation must be from 0 to 2".to_owned()));
    }
    let possible = |share: f64| (0.0..=0.9).contains(&share);
    if !args.bound.is_none_or(possible) {
        return Err(UsageError("--bound must be from 0 to 0.9".to_owned()));
    }
    let mut settings = Vec::new();
    for attack in &args.attacks {
        for &utilisation in &args.utilisation {
            for &scale in &args.methods {
                let relays = usize::try_from(args.relays).unwrap_or(usize::MAX);
                let mut setting = Setting::new(Method::from(scale), relays);
                setting.scaling.bound = args.bound.or(setting.scaling.bound);
                (setting.utilisation, setting.days) = (utilisation, args.days);
                (setting.scanners, setting.seed) = (args.scanners, args.seed);
                setting.attack = attack.clone();
                settings.push(setting);
            }
        }
    }
    Ok(settings)
}

/// A line for each day.
#[derive(Serialize)]
struct Row<'a> {
    method: &'a str,
    utilisation: f64,
    attack: &'a str,
    day: u32,
    nwe: f64,
    swing: f64,
    error: f64,
    median_rate: f64,
    slow_rate: f64,
    gain: Option<f64>,
    newcomers: Option<f64>,
}

impl<'a> Row<'a> {
    fn new(run: &'a Run, day: &Day) -> Self {
        Self {
            method: run.method,
            utilisation: run.utilisation,
            attack: &run.attack,
            day: day.day,
            nwe: day.nwe,
            swing: day.swing,
            error: day.error,
            median_rate: day.median_rate,
            slow_rate: day.slow_rate,
            gain: day.gain,
            newcomers: day.newcomers,
        }
    }
}

fn print_table(runs: &[Run]) -> anyhow::Result<()> {
    let mut table = table([
        "attack",
        "used",
        "method",
        "NWE",
        "swing",
        "error",
        "new: days",
        "clients kB/s",
        "5 %",
        "gain",
    ]);
    for run in runs {
        table.add_row([
            run.attack.clone(),
            format!("{:.0} %", run.utilisation * 100.0),
            run.method.to_owned(),
            format!("{:.3}", run.nwe),
            format!("{:.4}", run.swing),
            format!("{:.3}", run.error),
            run.newcomer_days
                .map_or("never".to_owned(), |days| days.to_string()),
            kilobytes(run.median_rate),
            kilobytes(run.slow_rate),
            run.gain.map_or("-".to_owned(), |gain| format!("{gain:.2}")),
        ]);
    }
    print(table)
}
