//! `bwscan file show`.

use std::path::PathBuf;
use std::time::SystemTime;

use bw_file::{
    Document, HeaderFields, RelayFields, TorJudge, UnixTime, Weights, write_json_lines,
    write_json_lines_of,
};
use bw_results::NetworkSnapshot;
use clap::Args;
use serde::Serialize;

use super::input::{Input, Reading, for_each_input};
use super::relay_name::{RelayArgs, find};
use super::{Output, verdict};
use crate::relay_name::RelayName;
use crate::text::printable;

#[derive(Args, Debug)]
pub(super) struct ShowArgs {
    /// Read this file or archive; - is standard input.
    path: PathBuf,
    /// Show only this relay: its fingerprint or the beginning of it, Ed25519 key,
    /// nickname, or with --consensus address.
    relay: Option<RelayName>,
    #[command(flatten)]
    network: RelayArgs,
}

#[derive(Serialize)]
struct Header<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    verdict: &'a str,
    timestamp: Option<UnixTime>,
    header: HeaderFields<'a>,
}

#[derive(Serialize)]
struct Relay<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<UnixTime>,
    verdict: &'a str,
    #[serde(flatten)]
    relay: RelayFields<'a>,
}

/// True if there is something to show.
pub(super) fn run(args: &ShowArgs, output: &mut Output<'_>) -> anyhow::Result<bool> {
    let network = args.network.network()?;
    let mut found = args.relay.is_none();
    for_each_input(
        std::slice::from_ref(&args.path),
        Reading::SEVERAL,
        |input| {
            match &args.relay {
                Some(name) => found |= show_relay(input, name, network.as_ref(), output)?,
                None => show_file(input, output)?,
            }
            Ok(())
        },
    )?;
    Ok(found)
}

fn show_relay(
    input: &Input<'_>,
    name: &RelayName,
    network: Option<&NetworkSnapshot>,
    output: &mut Output<'_>,
) -> anyhow::Result<bool> {
    let document = input.document;
    let line = find(name, document, network)?;
    let Some(line) = line.and_then(|line| document.relay(line)) else {
        return Ok(false);
    };
    let verdict = verdict::of_relay(line, &Weights::of(document));
    let fields = RelayFields::new(line);
    if output.json {
        output.json_line(&Relay {
            file: (!input.alone).then_some(input.name),
            timestamp: document.timestamp().value().filter(|_| !input.alone),
            verdict: &verdict,
            relay: fields,
        })?;
        return Ok(true);
    }
    show_name(input, output)?;
    writeln!(output.out, "{verdict}\n")?;
    show_pairs(|visit| fields.for_each(visit), output)?;
    Ok(true)
}

fn show_file(input: &Input<'_>, output: &mut Output<'_>) -> anyhow::Result<()> {
    let document = input.document;
    let verdict = file_verdict(input);
    let header = HeaderFields::new(document);
    let timestamp = document.timestamp().value();
    if output.json {
        output.json_line(&Header {
            file: (!input.alone).then_some(input.name),
            verdict: &verdict,
            timestamp,
            header,
        })?;
        if input.alone {
            write_json_lines(document.relays(), &mut *output.out)?;
        } else {
            write_json_lines_of(input.name, document, &mut *output.out)?;
        }
        return Ok(());
    }
    show_name(input, output)?;
    writeln!(output.out, "{verdict}\n")?;
    if let Some(timestamp) = timestamp {
        writeln!(output.out, "timestamp = {timestamp}")?;
    }
    show_pairs(|visit| header.for_each(visit), output)?;
    show_relays(document, output)
}

/// By the time at which a file was made if it comes from an archive.
fn file_verdict(input: &Input<'_>) -> String {
    let (document, bytes) = (input.document, input.document.to_bytes());
    let (now, judgement) = match document.created().filter(|_| input.archived) {
        Some(made) => (made, TorJudge::new(made).judge_archived(&bytes)),
        None => {
            let now = SystemTime::now().into();
            (now, TorJudge::new(now).judge(&bytes))
        }
    };
    verdict::of_file(document, &judgement, now)
}

/// Names one file among others.
fn show_name(input: &Input<'_>, output: &mut Output<'_>) -> anyhow::Result<()> {
    if !input.alone {
        let time = input.document.timestamp().value();
        let time = time.map_or_else(String::new, |time| format!(" ({time})"));
        writeln!(output.out, "{}{time}", input.name)?;
    }
    Ok(())
}

fn show_relays(document: &Document<'_>, output: &mut Output<'_>) -> anyhow::Result<()> {
    writeln!(
        output.out,
        "\n{:40}  {:>12}  vote  nick",
        "fingerprint", "kB/s"
    )?;
    for relay in document.relays() {
        let shown = |value: Option<String>| value.unwrap_or_else(|| "?".to_owned());
        writeln!(
            output.out,
            "{:40}  {:>12}  {:4}  {}",
            shown(relay.fingerprint().map(|id| id.to_string())),
            shown(relay.bandwidth().map(|bw| bw.value().to_string())),
            if relay.is_voted() { "yes" } else { "no" },
            printable(&relay.nick().value().unwrap_or_default())
        )?;
    }
    Ok(())
}

fn show_pairs(
    pairs: impl FnOnce(&mut dyn FnMut(&str, &str)),
    output: &mut Output<'_>,
) -> anyhow::Result<()> {
    let mut text = String::new();
    pairs(&mut |key, value| text.push_str(&format!("{} = {}\n", printable(key), printable(value))));
    output.out.write_all(text.as_bytes())?;
    Ok(())
}
