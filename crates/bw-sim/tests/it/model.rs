//! The model itself: what flows through it, and what its directory says.

use std::time::Duration;

use bw_file::{BytesPerSecond, Fingerprint};
use bw_measure::{Fault, Flow, Order, PathError, Transport, TwoHops};
use bw_results::{FailureKind, Stage, Timings};
use bw_sim::{Load, Model, Nature, Outage, Relay, Server, SimFlow};
use tokio::time::{sleep, timeout};

use crate::destination;

fn id(number: u8) -> Fingerprint {
    Fingerprint::from_bytes([number; 20])
}

/// A relay of so many MB/s.
fn relay(number: u8, megabytes: u64) -> Relay {
    Relay::new(id(number), BytesPerSecond::new(megabytes * 1_000_000))
}

fn model(relays: impl IntoIterator<Item = Relay>) -> Model {
    let server = Server::new(destination(1));
    Model::builder().relays(relays).server(server).build()
}

/// A flow that was not asked for anything yet.
async fn only_open(model: &Model, entry: u8, exit: u8) -> Result<SimFlow, PathError> {
    let (entry, exit) = (id(entry), id(exit));
    let destination = destination(1);
    let order = Order::download(&destination, 1 << 40);
    let path = TwoHops { entry, exit };
    model.open(path, &order, &mut Timings::default()).await
}

async fn open(model: &Model, entry: u8, exit: u8) -> Result<SimFlow, PathError> {
    let mut flow = only_open(model, entry, exit).await?;
    flow.begin(&mut Timings::default()).await?;
    Ok(flow)
}

/// The bytes that come next.
async fn next(flow: &mut SimFlow, most: u64) -> Result<u64, PathError> {
    assert!(flow.ready().await?, "it ended");
    Ok(flow.take(most))
}

/// The bytes that come within `seconds`, in MB.
async fn receive(flow: &mut SimFlow, seconds: u64) -> f64 {
    let mut bytes = 0;
    let all = async {
        while let Ok(more) = next(flow, u64::MAX).await {
            bytes += more;
        }
    };
    assert!(
        timeout(Duration::from_secs(seconds), all).await.is_err(),
        "it ended"
    );
    bytes as f64 / 1e6
}

fn is_near(found: f64, expected: f64) -> bool {
    (found / expected - 1.0).abs() < 0.02
}

#[tokio::test(start_paused = true)]
async fn the_slowest_on_the_path_limits_after_slow_start() {
    let model = model([relay(1, 8), relay(2, 3).exit()]);
    let mut flow = open(&model, 1, 2).await.unwrap();
    let first = receive(&mut flow, 1).await;
    assert!((0.1..2.9).contains(&first), "{first} MB in slow start");
    let second = receive(&mut flow, 10).await;
    assert!(is_near(second, 30.0), "{second} MB");
    assert_eq!(model.usage().relays[&id(2)].peak, 3e6);
}

#[tokio::test(start_paused = true)]
async fn flows_and_clients_share_what_there_is() {
    let mut loaded = relay(1, 6);
    loaded.load = Load::steady(0.9);
    loaded.load.circuits = 1.0;
    let model = model([
        loaded,
        relay(2, 50).exit(),
        relay(3, 50).exit(),
        relay(4, 1).exit(),
    ]);
    let mut flows = Vec::new();
    for exit in 2..=4 {
        flows.push(open(&model, 1, exit).await.unwrap());
    }
    let (one, two, three) = match &mut flows[..] {
        [a, b, c] => tokio::join!(receive(a, 20), receive(b, 20), receive(c, 20)),
        _ => unreachable!(),
    };
    // 1 MB/s for the slow exit; clients and the other two have a third of the rest.
    for (found, expected) in [(one, 5.0 / 3.0), (two, 5.0 / 3.0), (three, 1.0)] {
        let rate = found / 20.0;
        assert!(
            (rate / expected - 1.0).abs() < 0.06,
            "{rate} of {expected} MB/s"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_bucket_lets_a_burst_pass_and_fills_again() {
    let mut limited = relay(1, 1);
    limited.bucket = 6_000_000;
    limited.line = BytesPerSecond::new(4_000_000);
    let model = model([limited, relay(2, 50).exit()]);
    for _ in 0..2 {
        let mut flow = open(&model, 1, 2).await.unwrap();
        let burst = receive(&mut flow, 6).await;
        assert!(
            is_near(burst, 12.0),
            "{burst} MB: six seconds' rate, and the bucket"
        );
        let after = receive(&mut flow, 5).await;
        assert!(is_near(after, 5.0), "{after} MB");
        drop(flow);
        sleep(Duration::from_secs(7)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_reads_does_not_flow() {
    let model = model([relay(1, 1), relay(2, 5).exit()]);
    let mut flow = open(&model, 1, 2).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    let waiting = next(&mut flow, u64::MAX).await.unwrap();
    assert_eq!(waiting, 249_000, "500 cells");
    // Who reads little gets little.
    for _ in 0..20 {
        assert_eq!(next(&mut flow, 1_000).await.unwrap(), 1_000);
        sleep(Duration::from_millis(50)).await;
    }
    sleep(Duration::from_secs(60)).await;
    assert_eq!(next(&mut flow, 1_000).await.unwrap(), 1_000);
    let waiting = next(&mut flow, u64::MAX).await.unwrap();
    assert_eq!(waiting, 249_000, "who read a little was expected to go on");
}

#[tokio::test(start_paused = true)]
async fn nothing_flows_before_it_is_asked_for() {
    let model = model([relay(1, 1), relay(2, 5).exit()]);
    let mut flow = only_open(&model, 1, 2).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(model.usage().link.bytes, 0);
    assert_eq!(flow.take(u64::MAX), 0);
    let early = flow.ready().await.unwrap_err();
    assert_eq!(early.fault, Fault::Scanner);

    let mut timings = Timings::default();
    flow.begin(&mut timings).await.unwrap();
    assert!(timings.response.is_some());
    let first = next(&mut flow, 100).await.unwrap();
    assert_eq!(first, 100, "and no more than is taken");
}

#[tokio::test(start_paused = true)]
async fn failures_have_their_stage_and_their_fault() {
    let natures = [
        (1, Nature::Honest),
        (2, Nature::Refuses),
        (3, Nature::Silent),
        (4, Nature::Flaky { share: 1.0 }),
        (5, Nature::AccusesServers),
        (6, Nature::Cuts { after: 1_000_000 }),
    ];
    let model = model(natures.map(|(number, nature)| relay(number, 1).exit().with(nature)));
    let failure = async |entry, exit| {
        let mut flow = match open(&model, entry, exit).await {
            Ok(flow) => flow,
            Err(error) => return (error.stage, error.kind, error.fault),
        };
        loop {
            if let Err(error) = next(&mut flow, u64::MAX).await {
                return (error.stage, error.kind, error.fault);
            }
        }
    };
    use FailureKind::{Closed, Refused, Timeout, UnknownRelay};
    for (entry, exit, expected) in [
        (2, 1, (Stage::Channel, Refused, Fault::Entry)),
        (1, 2, (Stage::Extend, Refused, Fault::Either)),
        (3, 1, (Stage::Channel, Timeout, Fault::Entry)),
        (1, 3, (Stage::Extend, Timeout, Fault::Either)),
        (4, 1, (Stage::Create, Closed, Fault::Entry)),
        (1, 5, (Stage::Begin, Refused, Fault::Destination)),
        (6, 1, (Stage::Transfer, Closed, Fault::Either)),
        (1, 9, (Stage::Path, UnknownRelay, Fault::Exit)),
    ] {
        assert_eq!(failure(entry, exit).await, expected, "{entry} {exit}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_can_be_away_and_can_lie() {
    let mut server = Server::new(destination(1));
    let secs = Duration::from_secs;
    server.outages = vec![
        Outage {
            from: secs(10),
            until: secs(20),
            silent: false,
        },
        Outage {
            from: secs(30),
            until: secs(90),
            silent: true,
        },
    ];
    server.lies_after = Some(20_000_000);
    let relays = [relay(1, 1), relay(2, 1).exit()];
    let model = Model::builder().relays(relays).server(server).build();
    let mut early = open(&model, 1, 2).await.unwrap();
    sleep(secs(10)).await;
    let error = open(&model, 1, 2).await.unwrap_err();
    assert_eq!(
        (error.kind, error.fault),
        (FailureKind::Refused, Fault::Destination)
    );
    // What had come before still can be read.
    assert!(next(&mut early, u64::MAX).await.is_ok());
    assert_eq!(
        next(&mut early, u64::MAX).await.unwrap_err().kind,
        FailureKind::Closed
    );
    sleep(secs(20)).await;
    let error = open(&model, 1, 2).await.unwrap_err();
    assert_eq!(
        (error.stage, error.kind),
        (Stage::Begin, FailureKind::Timeout)
    );
    sleep(secs(60)).await;
    let mut flow = open(&model, 1, 2).await.unwrap();
    let error = loop {
        if let Err(error) = next(&mut flow, u64::MAX).await {
            break error;
        }
    };
    assert_eq!(
        (error.stage, error.kind),
        (Stage::Content, FailureKind::Content)
    );
}

#[tokio::test(start_paused = true)]
async fn the_consensus_changes_by_the_hour() {
    let hour = Duration::from_secs(3600);
    let (mut joins, mut leaves) = (relay(2, 1), relay(3, 1));
    joins.joins = hour / 2;
    leaves.leaves = Some(hour / 2);
    let model = model([relay(1, 1), joins, leaves]);
    let seen = || -> Vec<u8> {
        let consensus = model.consensus();
        consensus
            .relays
            .iter()
            .map(|relay| relay.fingerprint.as_bytes()[0])
            .collect()
    };
    assert_eq!(seen(), [1, 3]);
    let first = model.consensus();
    sleep(hour.checked_sub(Duration::from_secs(1)).unwrap()).await;
    assert_eq!(model.consensus(), first);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(seen(), [1, 2]);
    assert_eq!(model.consensus().valid_after, first.fresh_until);
}
