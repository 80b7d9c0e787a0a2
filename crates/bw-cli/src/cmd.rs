//! The commands, one file each.

mod aggregate;
mod compat;
mod config;
mod demo;
mod doctor;
mod explain;
mod generate;
mod list;
mod manual;
mod migrate;
mod names;
mod prune;
mod publication;
mod report;
mod run;
mod sbws_config;
mod scaling;
mod scan;
mod serve;
mod simulate;
mod status;
mod testnet;
mod transfer;
mod watch;
mod web;

pub(crate) use aggregate::AggregateArgs;
pub(crate) use config::ConfigCommand;
pub(crate) use demo::DemoArgs;
pub(crate) use doctor::DoctorArgs;
pub(crate) use explain::ExplainArgs;
pub(crate) use generate::GenerateArgs;
pub(crate) use list::ListArgs;
pub(crate) use migrate::MigrateArgs;
pub(crate) use prune::PruneArgs;
pub(crate) use report::ReportArgs;
pub(crate) use run::RunArgs;
pub(crate) use scaling::{Scale, ScalingArgs};
pub(crate) use scan::ScanArgs;
pub(crate) use serve::ServeArgs;
pub(crate) use simulate::SimulateArgs;
pub(crate) use status::StatusArgs;
pub(crate) use testnet::{NetworkArgs, TestnetCommand};
pub(crate) use transfer::{ExportArgs, ImportArgs};
pub(crate) use watch::WatchArgs;
pub(crate) use web::WebArgs;

use crate::args::Command;
use crate::command_line::CommandLine;
use crate::exit::Exit;
use crate::owner::give_to_owner;
use crate::paths::DataDir;

/// Runs the command that was asked for. What root makes in the directory of a service belongs to
/// the service.
pub(crate) async fn run(line: CommandLine) -> anyhow::Result<Exit> {
    let data = DataDir::new(&line.args.global);
    let ended = run_command(line).await;
    if let Ok(data) = data {
        give_to_owner(data.path());
    }
    ended
}

async fn run_command(line: CommandLine) -> anyhow::Result<Exit> {
    match &line.args.command {
        Command::Run(_) => return run::run(&line).await,
        Command::Doctor(args) => return doctor::run(args, &line).await,
        _ => {}
    }
    let CommandLine {
        arguments,
        args,
        config,
    } = line;
    let data = || DataDir::new(&args.global);
    match args.command {
        Command::Scan(args) => scan::run(&args, &data()?).await,
        Command::Run(_) | Command::Doctor(_) => unreachable!("they were run above"),
        Command::Watch(args) => watch::run(&args, &data()?).await,
        Command::Prune(args) => prune::run(&args, &data()?),
        Command::Status(args) => status::run(&args, config.as_ref(), &data()?).await,
        Command::List(args) => list::run(&args, &data()?),
        Command::Aggregate(args) => aggregate::run(&args, &data()?),
        Command::Generate(args) => generate::run(&args, &data()?).await,
        Command::Explain(args) => explain::run(&args, &data()?),
        Command::Web(args) => web::run(&args, &data()?).await,
        Command::Report(args) => report::run(&args, &data()?),
        Command::Export(args) => transfer::export(&args, &data()?),
        Command::Import(args) => transfer::import(&args, &data()?),
        Command::MigrateFromSbws(args) => migrate::run(&args, config.as_ref(), &data()?),
        Command::File(args) => file(args),
        Command::Serve(args) => serve::run(&args).await,
        Command::Config { command } => config::run(&command, &arguments, config.as_ref()),
        Command::Testnet { command } => testnet::run(&command, &data()?).await,
        Command::Simulate(args) => simulate::run(&args),
        Command::Demo(args) => demo::run(&args).await,
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { directory } => manual::pages(directory.as_deref()),
    }
}

/// `bwscan file`: 1 if something is wrong with a file, 2 if it cannot be read.
fn file(args: crate::file::FileArgs) -> anyhow::Result<Exit> {
    let well = crate::file::run(args, &mut std::io::stdout().lock())?;
    Ok(if well {
        Exit::Success
    } else {
        Exit::NotGoodEnough
    })
}
