//! Compressed files and archives (features `compression` and `archive`).

use std::io::{self, Read};
#[cfg(feature = "archive")]
use std::io::{BufRead, BufReader};

/// Reads a stream that may be compressed, by its first bytes: gzip, xz, or
/// zstd; anything else is passed on as it is. Several compressed streams
/// after each other are read as one.
///
/// ```
/// # use std::io::Read;
/// let mut text = String::new();
/// bw_file::decompress(&b"1700000000\n"[..])?.read_to_string(&mut text)?;
/// assert_eq!(text, "1700000000\n");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// If the first bytes cannot be read, or the decoder cannot be made.
pub fn decompress<'a, R: Read + 'a>(source: R) -> io::Result<Box<dyn Read + 'a>> {
    // A buffered reader may give less than a magic number at a time.
    let mut source = source;
    let mut magic = [0; 6];
    let mut length = 0;
    while length < magic.len() {
        match source.read(&mut magic[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let magic = magic[..length].to_vec();
    let compression = Compression::of(&magic);
    let source = io::Cursor::new(magic).chain(source);
    Ok(match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(source)),
        Compression::Xz => {
            // Dictionaries of up to 128 MiB, of `xz -9e` and more.
            let stream = liblzma::stream::Stream::new_stream_decoder(
                160 << 20,
                liblzma::stream::CONCATENATED,
            )?;
            Box::new(liblzma::read::XzDecoder::new_stream(source, stream))
        }
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(source)?),
    })
}

#[derive(Clone, Copy)]
enum Compression {
    None,
    Gzip,
    Xz,
    Zstd,
}

impl Compression {
    fn of(magic: &[u8]) -> Self {
        if magic.starts_with(b"\x1f\x8b") {
            Self::Gzip
        } else if magic.starts_with(b"\xfd7zXZ\0") {
            Self::Xz
        } else if magic.starts_with(b"\x28\xb5\x2f\xfd") {
            Self::Zstd
        } else {
            Self::None
        }
    }
}

/// Calls `visit` with the path and the content of every file of a tar archive
/// that may be compressed, one after the other, without unpacking it. Members
/// that are compressed themselves are decompressed. For CollecTor's monthly
/// archives.
///
/// # Errors
/// If the archive cannot be read, and those of `visit`, which end the reading.
#[cfg(feature = "archive")]
pub fn for_each_member<R: Read>(
    source: R,
    mut visit: impl FnMut(&str, &mut dyn Read) -> Result<(), crate::Error>,
) -> Result<(), crate::Error> {
    let mut archive = tar::Archive::new(decompress(source)?);
    for member in archive.entries()? {
        let member = member?;
        if member.header().entry_type().is_file() {
            let path = String::from_utf8_lossy(&member.path_bytes()).into_owned();
            visit(&path, &mut decompress(member)?)?;
        }
    }
    Ok(())
}

/// Whether the input is a tar archive, compressed or not, judged by its first
/// bytes, which are not consumed.
///
/// # Errors
/// If reading fails.
#[cfg(feature = "archive")]
pub fn is_archive<R: Read>(source: &mut BufReader<R>) -> io::Result<bool> {
    let start = source.fill_buf()?;
    let mut block = [0; 512];
    let mut decoder = decompress(start)?;
    let mut length = 0;
    while length < block.len() {
        match decoder.read(&mut block[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            // The start of a compressed stream need not be decodable alone.
            Err(_) => break,
        }
    }
    Ok(length == 512 && &block[257..262] == b"ustar")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const TEXT: &[u8] = b"1700000000\nbw=1 node_id=$0123456789012345678901234567890123456789\n";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        decompress(bytes).unwrap().read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn formats_are_told_by_their_first_bytes() {
        let zstd = zstd::stream::encode_all(TEXT, 1).unwrap();
        for compressed in [TEXT.to_vec(), gzip(TEXT), xz(TEXT), zstd] {
            assert_eq!(read(&compressed), TEXT);
            assert_eq!(read(&compressed.repeat(2)), TEXT.repeat(2));
        }
        assert_eq!(read(b""), b"");
        assert_eq!(read(b"\x1f"), b"\x1f");
    }

    #[cfg(feature = "archive")]
    #[test]
    fn archives_are_read_member_by_member() {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in [("a", TEXT.to_vec()), ("dir/b", xz(TEXT))] {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len().try_into().unwrap());
            header.set_mode(0o644);
            tar.append_data(&mut header, name, &bytes[..]).unwrap();
        }
        let archive = xz(&tar.into_inner().unwrap());
        assert!(is_archive(&mut BufReader::new(&archive[..])).unwrap());
        assert!(!is_archive(&mut BufReader::new(&xz(TEXT)[..])).unwrap());
        let mut seen = Vec::new();
        for_each_member(&archive[..], |name, content| {
            let mut reader = crate::Reader::new(content);
            let mut relays = 0;
            while reader.next_relay()?.is_some() {
                relays += 1;
            }
            seen.push((name.to_owned(), relays));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [("a".to_owned(), 1), ("dir/b".to_owned(), 1)]);
    }
}
