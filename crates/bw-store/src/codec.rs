//! The form of records: JSON, compressed against a dictionary of their common parts.

use std::io::{self, Read, Write};

use zstd::bulk::{Compressor, Decompressor};
use zstd::stream::{read, write};
use zstd::zstd_safe::CParameter;

use bw_results::Outcome;

/// The common parts of outcome records, as a dictionary for zstd. It is part
/// of the format of version [`OUTCOME_CODEC`] and never changes.
const OUTCOME_DICTIONARY: &[u8] = include_bytes!("outcome-dictionary-1.json");

/// First byte of every outcome record.
const OUTCOME_CODEC: u8 = 1;

/// Level 9 saves another 4 % of the store and takes a third longer to import.
const OUTCOME_LEVEL: i32 = 3;

/// Snapshots are few and large.
const SNAPSHOT_LEVEL: i32 = 6;

/// The largest record that is read back; a snapshot of 8,000 relays has 6 MB.
const SIZE_LIMIT: u64 = 1 << 28;

/// The window (2^n bytes) that lets a snapshot refer to all of its base.
const SNAPSHOT_WINDOW_LOG: u32 = 25;

/// Compresses and decompresses outcomes.
pub(crate) struct OutcomeCodec {
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
}

impl OutcomeCodec {
    pub(crate) fn new() -> io::Result<Self> {
        let mut compressor = Compressor::with_dictionary(OUTCOME_LEVEL, OUTCOME_DICTIONARY)?;
        compressor.set_parameter(CParameter::DictIdFlag(false))?;
        compressor.set_parameter(CParameter::ChecksumFlag(false))?;
        Ok(Self {
            compressor,
            decompressor: Decompressor::with_dictionary(OUTCOME_DICTIONARY)?,
        })
    }

    pub(crate) fn encode(&mut self, outcome: &Outcome) -> io::Result<Vec<u8>> {
        self.encode_json(&serde_json::to_vec(outcome)?)
    }

    /// The record of an outcome that is JSON already.
    pub(crate) fn encode_json(&mut self, json: &[u8]) -> io::Result<Vec<u8>> {
        let mut record = vec![OUTCOME_CODEC];
        record.append(&mut self.compressor.compress(json)?);
        Ok(record)
    }

    pub(crate) fn decode(&mut self, record: &[u8]) -> io::Result<Outcome> {
        let Some((&OUTCOME_CODEC, frame)) = record.split_first() else {
            return Err(io::Error::other("an outcome of an unknown encoding"));
        };
        let json = self.decompressor.decompress(frame, size_of_frame(frame)?)?;
        Ok(serde_json::from_slice(&json)?)
    }
}

/// Compresses a snapshot's JSON, against that of another one if there is one.
pub(crate) fn compress_snapshot(json: &[u8], base: Option<&[u8]>) -> io::Result<Vec<u8>> {
    let prefix = base.unwrap_or_default();
    let mut encoder = write::Encoder::with_ref_prefix(Vec::new(), SNAPSHOT_LEVEL, prefix)?;
    encoder.long_distance_matching(true)?;
    encoder.window_log(SNAPSHOT_WINDOW_LOG)?;
    encoder.write_all(json)?;
    encoder.finish()
}

/// The JSON of a compressed snapshot.
pub(crate) fn decompress_snapshot(frame: &[u8], base: Option<&[u8]>) -> io::Result<Vec<u8>> {
    let prefix = base.unwrap_or_default();
    let mut decoder = read::Decoder::with_ref_prefix(frame, prefix)?;
    decoder.window_log_max(SNAPSHOT_WINDOW_LOG)?;
    let mut json = Vec::new();
    decoder.take(SIZE_LIMIT).read_to_end(&mut json)?;
    Ok(json)
}

/// The size of what `frame` decompresses to, as it says itself.
fn size_of_frame(frame: &[u8]) -> io::Result<usize> {
    zstd::zstd_safe::get_frame_content_size(frame)
        .ok()
        .flatten()
        .filter(|&size| size <= SIZE_LIMIT)
        .and_then(|size| usize::try_from(size).ok())
        .ok_or_else(|| io::Error::other("a compressed record without a plausible size"))
}
