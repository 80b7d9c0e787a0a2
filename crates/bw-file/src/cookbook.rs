//! Recipes: whole tasks, from the bytes to the answer.
//!
//! - [Read a file and list its relays](#read-a-file-and-list-its-relays)
//! - [The weight of one relay](#the-weight-of-one-relay)
//! - [Tolerate bad lines, and say what they are](#tolerate-bad-lines-and-say-what-they-are)
//! - [What tor makes of a file](#what-tor-makes-of-a-file)
//! - [Compare two files](#compare-two-files)
//! - [Edit a header and write the file back](#edit-a-header-and-write-the-file-back)
//! - [Build and publish a file](#build-and-publish-a-file)
//! - [Read input from unknown hands](#read-input-from-unknown-hands)
//! - [Read a month's archive](#read-a-months-archive)
//! - [Check a vote against a file](#check-a-vote-against-a-file)
//! - [Convert to CSV and JSON Lines](#convert-to-csv-and-json-lines)
//!
//! # Read a file and list its relays
//!
//! A [`Document`](crate::Document) borrows the bytes and reads values when it
//! is asked for them. A relay whose line has no usable fingerprint or
//! bandwidth is still in the list, with `None` for it.
//!
//! ```
//! use bw_file::Document;
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("latest.v3bw");
//! # std::fs::write(&path, "1700000000\nversion=1.9.0\n=====\n\
//! #     bw=760 nick=First node_id=$ABABABABABABABABABABABABABABABABABABABAB\n\
//! #     bw=1 nick=Second node_id=$0123456789012345678901234567890123456789 vote=0 unmeasured=1\n")?;
//! let bytes = std::fs::read(path)?;
//! let document = Document::parse(&bytes);
//! let mut seen = Vec::new();
//! for relay in document.relays() {
//!     let (Some(fingerprint), Some(bw)) = (relay.fingerprint(), relay.bandwidth()) else {
//!         continue;
//!     };
//!     seen.push((fingerprint.to_string(), bw.value(), relay.is_voted()));
//! }
//! assert_eq!(
//!     seen,
//!     [
//!         ("ABABABABABABABABABABABABABABABABABABABAB".to_owned(), 760, true),
//!         ("0123456789012345678901234567890123456789".to_owned(), 1, false),
//!     ],
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The weight of one relay
//!
//! [`Document::index`](crate::Document::index) finds lines by fingerprint and
//! by Ed25519 key. A [`Field`](crate::Field) tells a key that is absent from
//! one that says `None` and from one whose value is not of its type.
//!
//! ```
//! use bw_file::{Document, Field, Fingerprint};
//!
//! let file = b"1700000000\nversion=1.4.0\nsoftware=sbws\n=====\n\
//!     bw=760 bw_median=fast desc_bw_avg=None nick=None node_id=$ABABABABABABABABABABABABABABABABABABABAB\n";
//! let document = Document::parse(file);
//! let wanted: Fingerprint = "ABABABABABABABABABABABABABABABABABABABAB".parse()?;
//!
//! let line = document.index().by_fingerprint(&wanted).ok_or("no such relay")?;
//! let relay = document.relay(line).ok_or("no such relay")?;
//! assert_eq!(relay.bandwidth().map(|bw| bw.value()), Some(760));
//! assert_eq!(relay.desc_bw_avg(), Field::WrittenNone);
//! assert!(relay.bw_median().is_invalid());
//! assert!(relay.bw_mean().is_absent());
//! // A relay may call itself so.
//! assert_eq!(relay.nick(), Field::Value("None".into()));
//! // Whatever it is, it can be had as it is written.
//! assert_eq!(relay.get(b"bw_median"), Some(&b"fast"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Tolerate bad lines, and say what they are
//!
//! Parsing has no errors: bad lines do not keep the good ones from being read.
//! What is wrong with a file is asked for apart, and comes as a
//! [`Report`](crate::Report) with all of it.
//!
//! ```
//! use bw_file::{Code, Document, Severity};
//!
//! let file = b"1700000000\nversion=1.9.0\n=====\n\
//!     bw=fast node_id=$0123456789012345678901234567890123456789\n\
//!     bw=760 node_id=$ABABABABABABABABABABABABABABABABABABABAB\n";
//! let document = Document::parse(file);
//! let total: u64 = document
//!     .relays()
//!     .filter_map(|relay| relay.bandwidth())
//!     .map(|bw| bw.value())
//!     .sum();
//! assert_eq!(total, 760);
//!
//! let report = bw_file::spec(&document, None);
//! assert_eq!(report.count(Severity::Error), 1);
//! let found = &report.diagnostics()[0];
//! assert_eq!(found.code, Code::InvalidBandwidth);
//! assert_eq!((found.position.line, found.position.column), (4, 4));
//! // For people: the place, the meaning, the line, and a caret.
//! let text = report.display(&document).to_string();
//! assert!(text.starts_with("4:4: error[invalid-bandwidth]: The bandwidth is not made of digits"));
//! ```
//!
//! # What tor makes of a file
//!
//! [`TorJudge`](crate::TorJudge) reads as an authority does, at a given time:
//! which lines it takes, what it votes for, what it warns of.
//!
//! ```
//! use bw_file::{TorJudge, UnixTime};
//!
//! let file = b"1700000000\nversion=1.9.0\n=====\n\
//!     bw=760 node_id=$ABABABABABABABABABABABABABABABABABABABAB\n\
//!     bw=1 node_id=$0123456789012345678901234567890123456789 vote=0\n\
//!     bw=5 node_id=$0000000000000000000000000000000000000000";
//! let now = UnixTime::new(1_700_003_600);
//! let verdict = TorJudge::new(now).judge(file);
//! assert!(!verdict.refused() && verdict.casts_vote());
//! // The last line lacks its line feed: tor drops it.
//! let used: Vec<(u64, u64)> = verdict.used().iter().map(|used| (used.line, used.bw.value())).collect();
//! assert_eq!(used, [(4, 760)]);
//! assert_eq!(verdict.skipped(), 1);
//! let warnings: Vec<&str> = verdict.warnings().iter().map(|w| w.kind.tor_says()).collect();
//! assert!(warnings.contains(&"Incomplete line in bandwidth file"), "{warnings:?}");
//!
//! // Four days later the same file is too old.
//! let later = UnixTime::new(1_700_000_000 + 4 * 86_400);
//! assert!(TorJudge::new(later).judge(file).refused());
//!
//! // Another tor: before 0.4.8.11 a fingerprint had to have its `$`.
//! let bare = b"1700000000\n=====\nbw=7 node_id=ABABABABABABABABABABABABABABABABABABABAB\n";
//! let old = TorJudge::new(now).version("0.4.8.10".parse()?);
//! assert_eq!(TorJudge::new(now).judge(bare).used().len(), 1);
//! assert_eq!(old.judge(bare).used().len(), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Compare two files
//!
//! [`Diff`](crate::Diff) names what differs,
//! [`NetworkComparison`](crate::NetworkComparison) says how alike two
//! measurements of the network are.
//!
//! ```
//! use bw_file::{Diff, Document, NetworkComparison};
//!
//! let before = Document::parse(
//!     b"1700000000\nbw=100 node_id=$0000000000000000000000000000000000000000\n\
//!       bw=300 node_id=$0123456789012345678901234567890123456789\n",
//! );
//! let after = Document::parse(
//!     b"1700003600\nbw=200 node_id=$0000000000000000000000000000000000000000\n\
//!       bw=200 node_id=$ABABABABABABABABABABABABABABABABABABABAB\n",
//! );
//! let diff = Diff::between(&before, &after);
//! assert_eq!((diff.gained.len(), diff.lost.len(), diff.changed.len()), (1, 1, 1));
//! let change = &diff.changed[0];
//! assert_eq!(change.before.map(|bw| bw.value()), Some(100));
//! assert_eq!(change.after.map(|bw| bw.value()), Some(200));
//! assert_eq!(diff.headers[0].key, "timestamp");
//!
//! let network = NetworkComparison::between(&before, &after);
//! assert_eq!(network.common, 1);
//! // Shares 1/4, 3/4, 0 became 1/2, 0, 1/2.
//! assert_eq!(network.total_variation, Some(0.75));
//! ```
//!
//! Authorities use `bw` and `vote`, and so only these are compared;
//! [`Diff::of_all_keys`](crate::Diff::of_all_keys) looks at the other keys too.
//!
//! # Edit a header and write the file back
//!
//! An edit changes the lines that it names and no other byte, however odd.
//! Write the new file beside the old one, sync it, and rename it: then no reader
//! finds half a file.
//!
//! ```
//! use bw_file::Document;
//!
//! let file = b"1700000000\nversion=1.9.0\nsoftware=x\n=====\r\n\
//!     bw=760  node_id=$ABABABABABABABABABABABABABABABABABABABAB\n";
//! let mut document = Document::parse(file);
//! document.set_header("software", "bwscan")?;
//! document.set_header("scanner_country", "DE")?;
//! // At a place of its own: as the third line, before the other headers.
//! document.insert_header(2, "mu", "801234")?;
//! assert_eq!(
//!     document.to_bytes(),
//!     b"1700000000\nversion=1.9.0\nmu=801234\nsoftware=bwscan\nscanner_country=DE\n=====\r\n\
//!       bw=760  node_id=$ABABABABABABABABABABABABABABABABABABABAB\n",
//! );
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("edited.v3bw");
//! let temporary = path.with_extension("tmp");
//! let mut file = std::fs::File::create(&temporary)?;
//! document.write_to(&mut file)?;
//! file.sync_all()?;
//! std::fs::rename(&temporary, &path)?;
//! # assert_eq!(std::fs::read(&path)?, document.to_bytes());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Build a file
//!
//! A [`FileBuilder`](crate::FileBuilder) refuses what the specification
//! forbids and what tor would not use.
//!
//! ```
//! use bw_file::{ErrorKind, FileBuilder, Fingerprint, KilobytesPerSecond, RelayBuilder, UnixTime};
//!
//! let fingerprint = Fingerprint::from_bytes([0xAB; 20]);
//! let mut builder = FileBuilder::new(UnixTime::new(1_700_000_000));
//! builder.software("bwscan").software_version("0.1.0");
//! let mut relay = RelayBuilder::new(fingerprint, KilobytesPerSecond::new(760));
//! relay.nick("Example");
//! builder.push_relay(relay);
//! // Relays that could not be measured are in the file, without a vote.
//! builder.push_relay(RelayBuilder::unmeasured_relay(Fingerprint::from_bytes([1; 20])));
//! assert!(builder.build()?.starts_with(b"1700000000\nversion=1.9.0\nsoftware=bwscan\n"));
//!
//! // The same relay again.
//! builder.push_relay(RelayBuilder::new(fingerprint, KilobytesPerSecond::new(5)));
//! let error = builder.build().unwrap_err();
//! assert!(matches!(error.kind(), ErrorKind::DuplicateRelay { .. }));
//! # Ok::<(), bw_file::Error>(())
//! ```
//!
//! Who is to read the file is said by a [`Target`](crate::Target): the version
//! of the format, and the oldest tor.
//!
//! ```
//! use bw_file::{
//!     Fingerprint, FormatVersion, KilobytesPerSecond, RelayBuilder, Target, TorVersion,
//! };
//!
//! let line = |target: Target| -> Result<String, bw_file::Error> {
//!     let mut relay =
//!         RelayBuilder::new(Fingerprint::from_bytes([0xAB; 20]), KilobytesPerSecond::new(760));
//!     relay.nick("Example").key("aaa", 1);
//!     let relay = relay.build(&target)?;
//!     Ok(String::from_utf8_lossy(relay.as_bytes()).into_owned())
//! };
//! let newest = Target::default().oldest_tor(TorVersion::release(0, 4, 8, 11));
//! assert_eq!(
//!     line(newest)?,
//!     "aaa=1 bw=760 nick=Example node_id=ABABABABABABABABABABABABABABABABABABABAB",
//! );
//! let torflows = Target::new(FormatVersion::V1_0_0);
//! assert_eq!(
//!     line(torflows)?,
//!     "node_id=$ABABABABABABABABABABABABABABABABABABABAB bw=760 nick=Example aaa=1",
//! );
//! # Ok::<(), bw_file::Error>(())
//! ```
//!
//! # Read input from unknown hands
//!
//! A [`Reader`](crate::Reader) keeps one line in memory, whatever the length
//! of the input, and takes no more than its [`Limits`](crate::Limits) allow.
//! After a line that was too long it goes on with the next one.
//!
//! ```
//! use bw_file::{ErrorKind, Limit, Limits, ReaderBuilder};
//!
//! let mut input = b"1700000000\nbw=5 node_id=$0000000000000000000000000000000000000000\n".to_vec();
//! input.resize(100_000, b'x');
//! input.extend(b"\nbw=7 node_id=$ABABABABABABABABABABABABABABABABABABABAB\n");
//!
//! let mut limits = Limits::default();
//! limits.line_bytes = 4096;
//! let mut reader = ReaderBuilder::new().limits(limits).from_reader(&input[..]);
//! let (mut total, mut too_long) = (0, 0);
//! loop {
//!     match reader.next_relay() {
//!         Ok(Some(relay)) => total += relay.bandwidth().map_or(0, |bw| bw.value()),
//!         Ok(None) => break,
//!         Err(error) => match error.kind() {
//!             ErrorKind::LimitExceeded { limit: Limit::LineBytes, .. } => too_long += 1,
//!             _ => return Err(error),
//!         },
//!     }
//! }
//! assert_eq!((total, too_long), (12, 1));
//! # Ok::<(), bw_file::Error>(())
//! ```
//!
//! # Read a month's archive
//!
//! With the feature `archive`, a tar archive is read member by member without
//! unpacking it, be it compressed as a whole, or its members, or not at all.
//!
//! ```
//! # #[cfg(feature = "archive")] {
//! use bw_file::{Reader, for_each_member};
//!
//! # let file = b"@type bandwidth-file 1.0\n1700000000\nbw=760 node_id=$ABABABABABABABABABABABABABABABABABABABAB\n";
//! # let mut tar = tar::Builder::new(Vec::new());
//! # for name in ["2023-11-14-22-13-20", "2023-11-14-23-13-20"] {
//! #     let mut header = tar::Header::new_ustar();
//! #     header.set_size(file.len().try_into()?);
//! #     header.set_mode(0o644);
//! #     tar.append_data(&mut header, name, &file[..])?;
//! # }
//! # let archive = std::io::Cursor::new(tar.into_inner()?);
//! // `archive` is any `Read`: a file, or a download as it comes.
//! let mut seen = Vec::new();
//! for_each_member(archive, |name, content| {
//!     let mut reader = Reader::new(content);
//!     let mut total = 0;
//!     while let Some(relay) = reader.next_relay()? {
//!         total += relay.bandwidth().map_or(0, |bw| bw.value());
//!     }
//!     seen.push((name.to_owned(), total));
//!     Ok::<(), bw_file::Error>(())
//! })?;
//! assert_eq!(seen[0], ("2023-11-14-22-13-20".to_owned(), 760));
//! assert_eq!(seen.len(), 2);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Check a vote against a file
//!
//! A vote names its bandwidth file by digest, repeats its header, and has a
//! `Measured=` for each relay. What it should say is part of tor's verdict.
//!
//! ```
//! use bw_file::{FileDigest, TorJudge, UnixTime, VoteLines, VoteMismatch};
//!
//! let file = b"1700000000\nversion=1.9.0\nsoftware=bwscan\n=====\n\
//!     bw=760 node_id=$0000000000000000000000000000000000000000\n";
//! let verdict = TorJudge::new(UnixTime::new(1_700_000_000)).judge(file);
//! assert_eq!(verdict.digest(), FileDigest::of(file));
//! assert_eq!(
//!     verdict.headers_line(),
//!     b"bandwidth-file-headers timestamp=1700000000 version=1.9.0 software=bwscan",
//! );
//!
//! let vote = format!(
//!     "bandwidth-file-headers timestamp=1700000000 version=1.9.0 software=bwscan\n\
//!      bandwidth-file-digest {}\n\
//!      r Example AAAAAAAAAAAAAAAAAAAAAAAAAAA more\n\
//!      w Bandwidth=3 Measured=500\n",
//!     FileDigest::of(file),
//! );
//! let mismatches = VoteLines::parse(vote.as_bytes()).mismatches(&verdict.vote_lines());
//! assert!(matches!(
//!     mismatches[..],
//!     [VoteMismatch::Measured { voted, expected: Some(expected), .. }]
//!         if (voted.value(), expected.value()) == (500, 760)
//! ));
//! ```
//!
//! # Convert to CSV and JSON Lines
//!
//! CSV (with the feature `csv`) has a column for each known key that is in the
//! file. JSON Lines (with the feature `json`) have an object for each relay, typed.
//!
//! ```
//! use bw_file::Document;
//!
//! let document = Document::parse(
//!     b"1700000000\nbw=760 nick=Example node_id=$ABABABABABABABABABABABABABABABABABABABAB\n",
//! );
//! # #[cfg(feature = "csv")] {
//! let mut csv = Vec::new();
//! bw_file::write_csv(&document, &mut csv)?;
//! assert_eq!(
//!     csv,
//!     b"bw,nick,node_id\n760,Example,$ABABABABABABABABABABABABABABABABABABABAB\n",
//! );
//! # }
//! # #[cfg(feature = "json")] {
//! let mut lines = Vec::new();
//! bw_file::write_json_lines(document.relays(), &mut lines)?;
//! let relay: serde_json::Value = serde_json::from_slice(&lines)?;
//! assert_eq!(relay["nick"], "Example");
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
