//! Throughput on generated files: `cargo bench -p bw-file --all-features`.
//!
//! In place of criterion's arguments, `--write-files DIR` only writes the generated
//! files, and `--time FILE` only prints the seconds that each access to a file takes;
//! both are for `against_stem.py`.
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark"
)]

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use bw_file::{
    Diff, Document, LintContext, Reader, RelayFields, TorJudge, UnixTime, lint, spec, write_csv,
};
use criterion::{BenchmarkId, Criterion, Throughput};

/// A small generator of numbers, the same on every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn fingerprint(&mut self) -> String {
        (0..5).map(|_| format!("{:08X}", self.next())).collect()
    }
}

/// A file as Torflow writes it: 9,200 relays, 2.1 MB.
fn torflow() -> Vec<u8> {
    let mut n = Numbers(1);
    let mut text = "1700000000\n".to_owned();
    for _ in 0..9200 {
        let id = n.fingerprint();
        let (bw, nick, scanner) = (n.next() % 100_000, n.next() % 10_000, 1 + n.next() % 9);
        let (error, sum, delta) = (n.next() % 1000, n.next() % 10_000, n.next() % 10_000);
        text += &format!(
            "node_id=${id} bw={bw} nick=r{nick} measured_at=1699999000 updated_at=1699998000 pid_error=0.{error} pid_error_sum=1.{sum} pid_bw={bw}321 pid_delta=-0.{delta} circ_fail=0.0 scanner=/{scanner}/0.0:0.8-2023-11-13\n"
        );
    }
    text.into_bytes()
}

/// A file of format 1.9.0: 10,000 relays, 7 MB.
fn newest() -> Vec<u8> {
    let mut n = Numbers(2);
    let mut text =
        "1700000000\nversion=1.9.0\nsoftware=sbws\nsoftware_version=2.2.0\n=====\n".to_owned();
    for _ in 0..10_000 {
        let id = n.fingerprint();
        let key: String = (0..43)
            .map(|_| char::from(b'a' + u8::try_from(n.next() % 26).unwrap()))
            .collect();
        let key = format!("{}A", &key[..42]);
        let (a, b, c) = (
            n.next() % 100_000_000,
            n.next() % 100_000_000,
            n.next() % 100_000,
        );
        text += &format!(
            "bw={c} bw_mean={a} bw_median={b} consensus_bandwidth={a} consensus_bandwidth_is_unmeasured=False desc_bw_avg=1073741824 desc_bw_bur=1073741824 desc_bw_obs_last={a} desc_bw_obs_mean={b} error_circ=0 error_destination=0 error_misc=0 error_second_relay=0 error_stream=2 master_key_ed25519={key} nick=relay{c} node_id={id} r_strm=1.00 r_strm_filt=0.97 relay_in_recent_consensus_count=118 relay_recent_measurement_attempt_count=3 relay_recent_measurements_excluded_error_count=0 relay_recent_measurements_excluded_near_count=0 relay_recent_priority_list_count=3 success=5 time=2023-11-14T12:00:00 xoff_recv=0 xoff_sent=0\n"
        );
    }
    text.into_bytes()
}

/// The lines of a file with their keys in another order.
fn reordered(file: &[u8], mut order: impl FnMut(&mut Vec<&str>)) -> Vec<u8> {
    let mut text = String::new();
    for line in std::str::from_utf8(file).unwrap().lines() {
        let mut tokens: Vec<&str> = line.split(' ').collect();
        order(&mut tokens);
        text += &tokens.join(" ");
        text.push('\n');
    }
    text.into_bytes()
}

fn shuffled(file: &[u8]) -> Vec<u8> {
    let mut n = Numbers(3);
    reordered(file, |tokens| tokens.sort_by_cached_key(|_| n.next()))
}

type Access = fn(&[u8]);

/// The accesses to all relays of a file.
const ACCESSES: [(&str, Access); 4] = [
    ("all pairs, borrowed", |file| {
        let document = Document::parse(file);
        let mut bytes = 0;
        for relay in document.relays() {
            for pair in relay.pairs() {
                bytes += pair.key.len() + pair.value.map_or(0, <[u8]>::len);
            }
        }
        black_box(bytes);
    }),
    ("fingerprint and bw", |file| {
        let document = Document::parse(file);
        for relay in document.relays() {
            black_box((relay.fingerprint(), relay.bandwidth()));
        }
    }),
    ("fingerprint and bw, streamed", |file| {
        let mut reader = Reader::new(file);
        while let Some(relay) = reader.next_relay().unwrap() {
            black_box((relay.fingerprint(), relay.bandwidth()));
        }
    }),
    ("all fields, typed", |file| {
        let document = Document::parse(file);
        for relay in document.relays() {
            black_box(RelayFields::new(relay));
        }
    }),
];

/// Prints the median of some runs of each access, in seconds.
fn time(path: &Path) {
    let file = std::fs::read(path).unwrap();
    for (name, access) in ACCESSES {
        let mut times: [Duration; 15] = std::array::from_fn(|_| {
            let start = Instant::now();
            access(&file);
            start.elapsed()
        });
        times.sort();
        let seconds = times[times.len() / 2].as_secs_f64();
        println!("{name}\t{seconds}");
    }
}

fn bench(criterion: &mut Criterion, name: &str, file: &[u8]) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(file.len().try_into().unwrap()));
    group.sample_size(20);
    for (name, access) in ACCESSES {
        group.bench_function(name, |b| b.iter(|| access(file)));
    }
    group.bench_function("spec, tor and lint", |b| {
        let at = UnixTime::new(1_700_000_000);
        b.iter(|| {
            let document = Document::parse(file);
            black_box((
                spec(&document, None),
                TorJudge::new(at).judge(file),
                lint(&document, LintContext::at(at)),
            ))
        });
    });
    group.bench_function("write back", |b| {
        let document = Document::parse(file);
        b.iter(|| black_box(document.to_bytes()));
    });
    group.finish();
}

/// Inputs made to do harm, of `n` parts: if the elements per second do not
/// fall from `n` to `4n`, the time grows linearly.
fn growth(criterion: &mut Criterion) {
    type Make = fn(usize) -> String;
    const ID: &str = "node_id=$0123456789012345678901234567890123456789";
    let inputs: [(&str, usize, Make); 5] = [
        ("lines of one relay", 25_000, |n| {
            format!("1700000000\n=====\n{}", format!("bw=5 {ID}\n").repeat(n))
        }),
        ("the same key in one line", 100_000, |n| {
            format!("1700000000\n=====\n{ID}{}\n", " bw=7".repeat(n))
        }),
        ("keys in one line", 50_000, |n| {
            let keys: String = (0..n).map(|number| format!(" k{number}=v")).collect();
            format!("1700000000\n=====\nbw=5 {ID}{keys}\n")
        }),
        ("headers", 25_000, |n| {
            let headers: String = (0..n).map(|number| format!("k{number}=v\n")).collect();
            format!("1700000000\n{headers}=====\n")
        }),
        ("annotations, then the same header", 25_000, |n| {
            let (annotations, headers) = ("@type x\n", "file_created=2023-11-14T22:13:19\n");
            format!(
                "{}1700000000\n{}",
                annotations.repeat(n / 2),
                headers.repeat(n / 2)
            )
        }),
    ];
    let at = UnixTime::new(1_700_000_000);
    let mut group = criterion.benchmark_group("growth");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    for (name, n, make) in inputs {
        for n in [n, 2 * n, 4 * n] {
            let file = make(n).into_bytes();
            group.throughput(Throughput::Elements(n.try_into().unwrap()));
            group.bench_function(BenchmarkId::new(name, n), |b| {
                b.iter(|| {
                    let document = Document::parse(&file);
                    let verdict = TorJudge::new(at).judge(&file);
                    for relay in document.relays() {
                        black_box(RelayFields::new(relay));
                    }
                    write_csv(&document, std::io::sink()).unwrap();
                    let mut edited = document.clone();
                    edited.remove_header("k0");
                    let relay = document.relays().find_map(|relay| relay.fingerprint());
                    if let Some(relay) = relay {
                        edited
                            .edit_relay(&relay, |line| {
                                line.remove("bw");
                                Ok::<(), bw_file::Error>(())
                            })
                            .unwrap();
                    }
                    black_box((
                        spec(&document, None),
                        verdict.report(&document),
                        lint(&document, LintContext::at(at)),
                        Diff::between(&document, &edited),
                    ))
                });
            });
        }
    }
    group.finish();
}

fn main() {
    let files = [("torflow 9200", torflow()), ("1.9.0 10000", newest())];
    for ((_, file), megabytes) in files.iter().zip([2.1, 7.0]) {
        let size = f64::from(u32::try_from(file.len()).unwrap()) / 1e6;
        assert!((size / megabytes - 1.0).abs() < 0.05, "{size} MB");
    }
    let arguments: Vec<String> = std::env::args().collect();
    let path_after = |option: &str| {
        let at = arguments.iter().position(|argument| argument == option)?;
        Some(Path::new(arguments.get(at + 1)?))
    };
    if let Some(file) = path_after("--time") {
        return time(file);
    }
    if let Some(directory) = path_after("--write-files") {
        let [(_, torflow), (_, newest)] = &files;
        let write = |name, file| std::fs::write(directory.join(name), file).unwrap();
        write("torflow.v3bw", torflow.clone());
        write("newest.v3bw", newest.clone());
        write(
            "reversed.v3bw",
            reordered(newest, |tokens| tokens.reverse()),
        );
        write("shuffled.v3bw", shuffled(newest));
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    for (name, file) in &files {
        bench(&mut criterion, name, file);
    }
    growth(&mut criterion);
    criterion.final_summary();
}
