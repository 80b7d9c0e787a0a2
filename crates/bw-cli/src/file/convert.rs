//! `bwscan file convert`.

use std::path::PathBuf;

use bw_file::{write_csv, write_csv_head, write_csv_of, write_json_lines, write_json_lines_of};
use clap::{Args, ValueEnum};

use super::Output;
use super::input::{Reading, for_each_input};

#[derive(Args, Debug)]
pub(super) struct ConvertArgs {
    /// The file, or an archive: then each row tells its file and that file's timestamp; `-`
    /// for standard input.
    path: PathBuf,
    /// The form to write.
    #[arg(long, value_enum)]
    to: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Comma-separated values.
    Csv,
    /// A JSON object a line.
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
