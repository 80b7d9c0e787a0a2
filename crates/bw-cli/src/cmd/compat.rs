//! `bwscan generate --compat sbws`: the file that sbws would write.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Context;
use bw_aggregate::{SbwsGenerator, SbwsHeader, SbwsOptions, SbwsScaling, SbwsVersion};
use bw_file::{replace_file, replace_symlink};
use bw_results::{CLOCK_TOLERANCE, Filter, NetworkSnapshot, SbwsHome, SbwsState, UnixMillis};
use serde_json::json;

use super::generate::{LATEST, make_directory, not_written, warn};
use super::sbws_config::SbwsConfig;
use super::scaling::{newest_snapshot, now, open_stores, options_fit};
use crate::args::GenerateArgs;
use crate::exit::{Exit, UsageError};
use crate::paths::DataDir;
use crate::result_args::Scale;
use crate::text::{format_utc, print, print_json};

/// Writes the dated file and lets `latest.v3bw` point to it.
pub(super) fn run(
    version: SbwsVersion,
    args: &GenerateArgs,
    data: &DataDir,
    output: &Path,
    fresh: Option<NetworkSnapshot>,
) -> anyhow::Result<Exit> {
    let options = options(version, args)?;
    let now = now(&args.scaling);
    let mut header = header(args);
    let mut generator = SbwsGenerator::new(options);
    let network = match &args.sbws_home {
        Some(home) => from_home(&SbwsHome::new(home), &mut generator, &mut header)?,
        None => from_stores(args, data, &mut generator, &mut header)?,
    };
    let network = match &args.scaling.consensus {
        Some(consensus) => Some(NetworkSnapshot::read_files(
            consensus,
            &args.scaling.descriptors,
        )?),
        None => fresh.or(network),
    };
    let file = generator.finish(&header, network.as_ref())?;
    make_directory(output)?;
    let name = format_utc(now, "%Y%m%d_%H%M%S.v3bw");
    let (path, latest) = (output.join(&name), output.join(LATEST));
    replace_file(&path, &file)
        .and_then(|()| replace_symlink(Path::new(&name), &latest))
        .with_context(|| not_written(output))?;
    if args.json {
        print_json(&json!({ "path": path, "latest": latest, "compat": version.as_str() }))?;
    } else {
        print(format!(
            "wrote {}, as sbws {} would",
            path.display(),
            version.as_str()
        ))?;
    }
    Ok(Exit::Success)
}

fn options(version: SbwsVersion, args: &GenerateArgs) -> anyhow::Result<SbwsOptions> {
    let scaling = &args.scaling;
    options_fit(scaling)?;
    if scaling.bound.is_some() {
        let text = "sbws has no --bound; leave it out, or --compat";
        return Err(UsageError(text.to_owned()).into());
    }
    let now = now(scaling).value() as f64 / 1000.0;
    let mut options = SbwsOptions::new(version, now);
    options.scaling = match scaling.scale {
        Scale::Torflow => SbwsScaling::Torflow {
            margin: scaling.max_share.unwrap_or(0.05),
        },
        Scale::Sbws => SbwsScaling::Sbws {
            constant: scaling.scale_constant.unwrap_or(7500),
        },
        Scale::Raw => SbwsScaling::Raw,
        Scale::TorflowPid | Scale::Linear | Scale::Capacity => {
            let text = "--compat sbws has the scalings torflow, sbws and raw only";
            return Err(UsageError(text.to_owned()).into());
        }
    };
    options.digits = scaling.round_digits.unwrap_or(2);
    options.secs_recent = scaling.recent.map(|recent| recent.as_secs());
    options.secs_away = scaling.apart.map(|apart| apart.as_secs());
    options.min_num = scaling.min_measurements;
    options.data_period = args.data_period;
    options.reset_ipv4 = args.reset_ipv4_changes;
    Ok(options)
}

fn header(args: &GenerateArgs) -> SbwsHeader {
    let mut header = SbwsHeader::default();
    header.scanner_country = args.scanner_country;
    header
        .destinations_countries
        .clone_from(&args.destinations_countries);
    header.dirauth_nickname.clone_from(&args.dirauth_nickname);
    // Whoever reads the file must know who to ask.
    header.software = Some(("bwscan".to_owned(), env!("CARGO_PKG_VERSION").to_owned()));
    header
}

/// As sbws reads its own files; its configuration fills in what no option says.
fn from_home(
    home: &SbwsHome,
    generator: &mut SbwsGenerator,
    header: &mut SbwsHeader,
) -> anyhow::Result<Option<NetworkSnapshot>> {
    if let Some(path) = home.config() {
        let config = SbwsConfig::read(&path)?;
        header.scanner_country = header.scanner_country.or(config.country());
        if header.destinations_countries.is_empty() {
            header.destinations_countries = config.destinations_countries();
        }
        if header.dirauth_nickname.is_none() {
            header.dirauth_nickname = config
                .get("scanner", "dirauth_nickname")
                .filter(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        }
    }
    for file in home.files()? {
        // sbws does not look at what it has compressed.
        if file.is_gzipped() || !generator.options().reads(&file.date) {
            continue;
        }
        file.for_each_result(|_, result| {
            if let Ok(result) = result {
                generator.add(result.fingerprint, result.facts);
            }
        })?;
    }
    header.state = match home.state() {
        // As sbws does since then; before, it ended with an exception.
        Err(error) if generator.options().version >= SbwsVersion::V2_2_0 => {
            warn(&format!("left out, as by sbws 2.2.0: {error}"));
            SbwsState::default()
        }
        state => state?.unwrap_or_default(),
    };
    Ok(home.network(false)?)
}

fn from_stores(
    args: &GenerateArgs,
    data: &DataDir,
    generator: &mut SbwsGenerator,
    header: &mut SbwsHeader,
) -> anyhow::Result<Option<NetworkSnapshot>> {
    let stores = open_stores(&args.scaling.stores, &data.store())?;
    let options = generator.options();
    // sbws does not look at files of tomorrow, in which later results are.
    let filter = Filter::all()
        .since(UnixMillis::from_secs(options.first_day()))
        .until(UnixMillis::from_secs(options.end_of_day()));
    // Each measurement once, as everywhere.
    let mut seen = std::collections::HashSet::new();
    for store in &stores {
        let _ = store.for_each_sbws_facts(&filter, |stored| {
            if stores.len() == 1 || seen.insert(stored.id) {
                let (fingerprint, facts) = stored.value;
                generator.add(fingerprint, facts);
            }
            ControlFlow::<()>::Continue(())
        })?;
        if let Some(state) = store.sbws_state()? {
            header.state = state;
        }
    }
    newest_snapshot(&stores, now(&args.scaling).after(CLOCK_TOLERANCE))
}
