//! `bwscan generate --compat sbws`: the file that sbws would write.

use std::path::Path;

use anyhow::Context;
use bw_results::{CLOCK_TOLERANCE, NetworkSnapshot};
use bw_sbws::{Config, Generator, Header, Home, Options, Scaling, State, Version};
use serde_json::json;

use super::publication::{LATEST, make_directory, not_written};
use super::scaling::{now, open_stores, options_fit};
use crate::cmd::{GenerateArgs, Scale};
use crate::exit::{Exit, UsageError};
use crate::paths::DataDir;
use crate::publish::publish;
use crate::text::{format_utc, print, print_json, warn};

/// Writes the dated file and lets `latest.v3bw` point to it.
pub(super) fn run(
    version: Version,
    args: &GenerateArgs,
    data: &DataDir,
    output: &Path,
    fresh: Option<NetworkSnapshot>,
) -> anyhow::Result<Exit> {
    let options = options(version, args)?;
    let now = now(&args.scaling);
    let mut header = header(args);
    let mut generator = Generator::new(options);
    let network = match &args.sbws_home {
        Some(home) => from_home(&Home::new(home), &mut generator, &mut header)?,
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
    let path = publish(&file, output, &name, LATEST).with_context(|| not_written(output))?;
    let latest = output.join(LATEST);
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

fn options(version: Version, args: &GenerateArgs) -> anyhow::Result<Options> {
    let scaling = &args.scaling;
    let scale = scaling.scale.unwrap_or(Scale::Torflow);
    options_fit(scaling, scale)?;
    if scaling.bound.is_some() {
        let text = "sbws has no --bound; leave it out, or --compat";
        return Err(UsageError(text.to_owned()).into());
    }
    let now = now(scaling).value() as f64 / 1000.0;
    let mut options = Options::new(version, now);
    options.scaling = match scale {
        Scale::Torflow => Scaling::Torflow {
            margin: scaling.max_share.unwrap_or(0.05),
        },
        Scale::Sbws => Scaling::Sbws {
            constant: scaling.scale_constant.unwrap_or(7500),
        },
        Scale::Raw => Scaling::Raw,
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

fn header(args: &GenerateArgs) -> Header {
    let mut header = Header::default();
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
    home: &Home,
    generator: &mut Generator,
    header: &mut Header,
) -> anyhow::Result<Option<NetworkSnapshot>> {
    if let Some(path) = home.config() {
        let config = Config::read(&path)?;
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
    generator.read_home(home)?;
    header.state = match home.state() {
        // As sbws does since then; before, it ended with an exception.
        Err(error) if generator.options().version >= Version::V2_2_0 => {
            warn(&format!("left out, as by sbws 2.2.0: {error}"));
            State::default()
        }
        state => state?.unwrap_or_default(),
    };
    Ok(home.network(false)?)
}

fn from_stores(
    args: &GenerateArgs,
    data: &DataDir,
    generator: &mut Generator,
    header: &mut Header,
) -> anyhow::Result<Option<NetworkSnapshot>> {
    let stores = open_stores(&args.scaling.stores, &data.store())?;
    generator.read_stores(&stores)?;
    for store in &stores {
        if let Some(state) = store.imported_state()? {
            header.state = state;
        }
    }
    Ok(stores.latest_snapshot_by(now(&args.scaling).after(CLOCK_TOLERANCE))?)
}
