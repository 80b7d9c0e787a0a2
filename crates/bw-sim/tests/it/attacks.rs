//! Relays that claim much and give little, so that a scan waits for them.

use std::time::Duration;

use bw_file::BytesPerSecond;
use bw_sim::{Model, Nature, Population, Relay, Server};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::{destination, limits, round};

const RELAYS: usize = 2000;
/// One in so many attacks: a fiftieth of the relays.
const EACH: usize = 50;
/// The claim of each attacker: four fifths of the scanner's link.
const CLAIM: u64 = 100_000_000;
/// The most that an attack may add to the time until all honest relays are done, as a share of it.
const COSTS: f64 = 0.1;
/// The most that an attacker may gain over what it can carry, as a share of it.
const GAINS: f64 = 0.1;

/// The same network each time, in which some relays claim much and have this nature.
fn attacked(nature: Option<Nature>) -> Model {
    let population = Population::public_network(RELAYS);
    let mut relays = population.generate(&mut StdRng::seed_from_u64(1));
    if let Some(nature) = nature {
        for relay in relays.iter_mut().step_by(EACH) {
            claim(relay);
            relay.nature = nature;
        }
    }
    let server = Server::new(destination(1));
    Model::builder()
        .relays(relays)
        .server(server)
        .seed(1)
        .build()
}

/// Its own word, that is: authorities know what it was measured with. Who declares no limit is
/// not known to burst, so it has no bucket either.
fn claim(relay: &mut Relay) {
    relay.bucket = 0;
    if let Some(descriptor) = &mut relay.facts.descriptor {
        let claim = BytesPerSecond::new(CLAIM);
        (descriptor.average, descriptor.burst, descriptor.observed) = (claim, claim, claim);
    }
}

fn claims(relay: &Relay) -> bool {
    let descriptor = relay.facts.descriptor;
    descriptor.is_some_and(|descriptor| descriptor.observed.value() == CLAIM)
}

#[tokio::test(start_paused = true)]
async fn who_claims_and_does_not_give_gains_nothing_and_holds_nobody_up() {
    let honest = attacked(None);
    let (report, _) = round(&honest, limits(), 1).await;
    assert_eq!((report.measured, report.left), (RELAYS, 0));
    let time = honest.elapsed();
    for nature in [
        Nature::Honest,
        Nature::Stalls { after: 0 },
        Nature::Stalls { after: 1 << 20 },
        Nature::Cuts { after: 1 << 20 },
        Nature::AnswersLate {
            by: Duration::from_secs(10),
        },
    ] {
        let model = attacked(Some(nature));
        let (report, ledger) = round(&model, limits(), 1).await;
        assert_eq!(report.left, 0, "{nature:?}");
        let (mut done, entries) = (Duration::ZERO, ledger.entries());
        for relay in model.relays() {
            let entry = &entries[&relay.facts.fingerprint];
            if claims(relay) {
                let most = (1.0 + GAINS) * relay.available();
                assert!(entry.rate.unwrap_or(0.0) <= most, "{nature:?}: {entry:?}");
            } else {
                done = done.max(entry.settled.unwrap());
            }
        }
        println!("{nature:?}: the others are done after {done:?} instead of {time:?}");
        assert!(done <= time.mul_f64(1.0 + COSTS), "{nature:?}");
    }
}
