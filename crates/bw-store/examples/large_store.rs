//! Makes a store as a month of scanning leaves it, to measure what reads it:
//! `large_store PATH [RELAYS] [DAYS]`, by default 8000 relays and 28 days with a
//! measurement of each relay a day and a failure of every tenth.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use bw_results::{Verdict, testing};
use bw_store::Store;

/// Milliseconds of a day.
const DAY: u64 = 86_400_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("large_store PATH [RELAYS] [DAYS]")?;
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (relays, days) = (number(8000)?, number(28)?);
    let mut store = Store::open(PathBuf::from(path))?;
    let last = testing::snapshot(relays, 0);
    let end = last.valid_after;
    let snapshot = store.put_snapshot(&last)?;
    for day in 0..days {
        let begin = end
            .before(Duration::from_millis((days - day) * DAY))
            .value();
        let scan = testing::scan(u8::try_from(day)?, begin);
        let targets: Vec<_> = (0..relays).map(testing::fingerprint).collect();
        store.begin_scan(&scan, &targets, snapshot)?;
        for relay in 0..relays {
            let at = begin + relay * DAY / relays / 2;
            if relay.is_multiple_of(10) {
                let failed = testing::failed(relay, at);
                store.record(&scan.id, &failed, &Verdict::default_of(&failed), false)?;
            }
            let measured = testing::measured(relay, at + 20_000);
            store.record(&scan.id, &measured, &Verdict::default_of(&measured), true)?;
        }
        store.finish_scan(&scan.id, scan.started.after(Duration::from_millis(DAY / 2)))?;
    }
    Ok(())
}
