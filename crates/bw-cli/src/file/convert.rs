//! `bwscan file convert`.

use std::path::PathBuf;

use bw_file::{write_csv, write_csv_head, write_csv_of, write_json_lines, write_json_lines_of};
use clap::{Args, ValueEnum};

use super::Output;
use super::input::{Reading, for_each_input};

#[derive(Args, Debug)]
pub(super) struct ConvertArgs {
    /// Read this file or archive; - is standard input.
    ///
    /// Rows of an archive begin with their file and its timestamp.
    path: PathBuf,
    /// Write this form.
    #[arg(long, value_enum)]
    to: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Write comma-separated values.
    Csv,
    /// Write a JSON object in each line.
    Jsonl,
}

pub(super) fn run(args: &ConvertArgs, output: &mut Output<'_>) -> anyhow::Result<bool> {
    let mut first = true;
    let paths = std::slice::from_ref(&args.path);
    for_each_input(paths, Reading::SEVERAL, |input| {
        let (name, document, out) = (input.name, input.document, &mut *output.out);
        match args.to {
            Format::Csv if input.alone => write_csv(document, out)?,
            Format::Csv => {
                if std::mem::take(&mut first) {
                    write_csv_head(&mut *out)?;
                }
                write_csv_of(name, document, out)?;
            }
            Format::Jsonl if input.alone => write_json_lines(document.relays(), out)?,
            Format::Jsonl => write_json_lines_of(name, document, out)?,
        }
        Ok(())
    })?;
    Ok(true)
}
