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

/// Bytes of a header that extends another one in an archive: a path, or the
/// attributes that some systems keep with a file.
#[cfg(feature = "archive")]
const MAX_EXTENSION_BYTES: u64 = 1 << 20;

/// Calls `visit` with the path and the content of every file of a tar archive
/// that may be compressed, one after the other, without unpacking it. Members
/// that are compressed themselves are decompressed. For CollecTor's monthly
/// archives.
///
/// `visit` returns errors of its own type, which has a `From` for this crate's.
///
/// ```
/// # let mut tar = tar::Builder::new(Vec::new());
/// # let mut header = tar::Header::new_ustar();
/// # header.set_size(11);
/// # tar.append_data(&mut header, "2023-11-14", &b"1700000000\n"[..])?;
/// # let archive = std::io::Cursor::new(tar.into_inner()?);
/// let mut names = Vec::new();
/// bw_file::for_each_member(archive, |name, content| -> Result<(), Box<dyn std::error::Error>> {
///     let mut reader = bw_file::Reader::new(content);
///     reader.timestamp()?.ok_or("no bandwidth file")?;
///     names.push(name.to_owned());
///     Ok(())
/// })?;
/// assert_eq!(names, ["2023-11-14"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If the archive cannot be read, or has a member with a name or attributes of
/// more than 1 MiB, a sparse one, or one whose headers contradict each other;
/// and those of `visit`, which end the reading.
#[cfg(feature = "archive")]
pub fn for_each_member<R, E>(
    source: R,
    mut visit: impl FnMut(&str, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E>
where
    R: Read,
    E: From<crate::Error>,
{
    let mut archive = tar::Archive::new(decompress(source).map_err(crate::Error::from)?);
    // Raw: what tar reads into memory by itself has no limit.
    let members = archive.entries().map_err(crate::Error::from)?.raw(true);
    let mut extension = Extension::default();
    for member in members {
        let mut member = member.map_err(crate::Error::from)?;
        if extension.take(&mut member)? {
            continue;
        }
        let Extension { path, size } = std::mem::take(&mut extension);
        let kind = member.header().entry_type();
        if kind.is_gnu_sparse() {
            return Err(bad_archive("a sparse file").into());
        }
        if size.is_some_and(|size| size != member.size()) {
            return Err(bad_archive("a file with two sizes").into());
        }
        if kind.is_file() {
            let path = path.unwrap_or_else(|| member.path_bytes().into_owned());
            let content = decompress(member).map_err(crate::Error::from);
            visit(&String::from_utf8_lossy(&path), &mut content?)?;
        }
    }
    Ok(())
}

/// The name and size of a member by the headers before its own.
#[cfg(feature = "archive")]
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    size: Option<u64>,
}

#[cfg(feature = "archive")]
impl Extension {
    /// Reads an entry that only says something of the next one; false if it is
    /// no such entry.
    fn take<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<bool, crate::Error> {
        let kind = entry.header().entry_type();
        if kind.is_gnu_longname() {
            let mut path = bounded(entry)?;
            path.truncate(memchr::memchr(0, &path).unwrap_or(path.len()));
            self.path = Some(path);
        } else if kind.is_pax_local_extensions() {
            for pair in tar::PaxExtensions::new(&bounded(entry)?) {
                let pair = pair?;
                match pair.key_bytes() {
                    b"path" => self.path = Some(pair.value_bytes().to_vec()),
                    b"size" => self.size = pair.value().ok().and_then(|size| size.parse().ok()),
                    _ => {}
                }
            }
        } else {
            // Targets of links, and what holds for all members.
            return Ok(kind.is_gnu_longlink() || kind.is_pax_global_extensions());
        }
        Ok(true)
    }
}

#[cfg(feature = "archive")]
fn bounded<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Vec<u8>, crate::Error> {
    let mut bytes = Vec::new();
    if entry.size() > MAX_EXTENSION_BYTES {
        let problem = format!("a name or attributes of {} bytes", entry.size());
        return Err(bad_archive(problem));
    }
    entry.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(feature = "archive")]
fn bad_archive(problem: impl Into<String>) -> crate::Error {
    crate::Error::new(crate::ErrorKind::BadArchive {
        problem: problem.into(),
    })
}

/// Returns true if the input is a tar archive, compressed or not. Its first bytes
/// tell, which are not consumed.
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

    /// An archive of one member that is named by a header of its own.
    #[cfg(feature = "archive")]
    fn named_by(kind: tar::EntryType, name: &[u8]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (kind, bytes) in [(kind, name), (tar::EntryType::Regular, TEXT)] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(bytes.len().try_into().unwrap());
            header.set_mode(0o644);
            tar.append_data(&mut header, "short", bytes).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[cfg(feature = "archive")]
    #[test]
    fn members_are_called_by_their_long_names() {
        let long = format!("bandwidths/{}", "2023-11-14/".repeat(20));
        let pax = format!("path={long}\n");
        let pax = format!("{} {pax}", pax.len() + "000 ".len());
        for archive in [
            named_by(tar::EntryType::GNULongName, format!("{long}\0").as_bytes()),
            named_by(tar::EntryType::XHeader, pax.as_bytes()),
        ] {
            let mut seen = Vec::new();
            for_each_member(&archive[..], |name, content| {
                let mut text = Vec::new();
                content.read_to_end(&mut text)?;
                seen.push((name.to_owned(), text));
                Ok::<(), crate::Error>(())
            })
            .unwrap();
            assert_eq!(seen, [(long.clone(), TEXT.to_vec())]);
        }
    }

    #[cfg(feature = "archive")]
    #[test]
    fn two_sizes_of_a_member_are_refused() {
        let archive = named_by(tar::EntryType::XHeader, b"10 size=7\n");
        let error = for_each_member(&archive[..], |_, _| Ok::<(), crate::Error>(())).unwrap_err();
        assert_eq!(error.to_string(), "the archive has a file with two sizes");
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
            Ok::<(), crate::Error>(())
        })
        .unwrap();
        assert_eq!(seen, [("a".to_owned(), 1), ("dir/b".to_owned(), 1)]);
    }
}
