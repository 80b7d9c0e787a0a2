//! The verdict on a relay in one sentence.

use bw_results::text::grouped;

use crate::aggregate::RelayAggregate;
use crate::explain::Standing;
use crate::scale::{Answer, Method, Scaled};

/// Below and above these shares of the relays, a weight is low or high.
const THIRDS: (f64, f64) = (1.0 / 3.0, 2.0 / 3.0);

impl Scaled {
    /// The answer for a relay in one sentence: how its weight is and why, or why it
    /// has none. `standing` is its place, as [`standing`](Self::standing) gives it; of its `attempts` in the days that count, `failed` are charged to it.
    pub fn sentence(
        &self,
        relay: &RelayAggregate,
        standing: Option<Standing>,
        attempts: usize,
        failed: usize,
    ) -> String {
        let steps = match self.relay(&relay.fingerprint).map(|relay| relay.answer) {
            Some(Answer::Weight(steps)) => steps,
            Some(Answer::Excluded(reason)) => return format!("No weight: {reason}."),
            None => {
                let reason = relay.verdict.err();
                let reason = reason.map_or_else(
                    || "not in the consensus".to_owned(),
                    |reason| reason.to_string(),
                );
                return format!("No weight: {reason}.");
            }
        };
        let (rank, of, share) = standing.map_or((0, 0, 0.0), |s| (s.rank, s.of, s.share));
        let uses_promise = self.network.method == Method::Torflow;
        let verdict = Verdict {
            rank,
            of,
            relative: share * of as f64,
            ratio: steps.ratio,
            promised: uses_promise.then_some(steps.advertised.value() / 1000),
            is_limited: steps.is_limited,
            failed,
            attempts,
        };
        verdict.to_string()
    }
}

/// The facts of a relay with a weight that the sentence is made of.
#[derive(Clone, Copy, Debug)]
struct Verdict {
    /// Its place among the relays with a weight, 1 being the highest weight.
    rank: u64,
    of: u64,
    /// Its weight over the mean weight.
    relative: f64,
    /// Its rate over the mean rate.
    ratio: f64,
    /// Kilobytes per second that its descriptor promises, if the formula uses
    /// that.
    promised: Option<u64>,
    /// True if it was cut to the largest share.
    is_limited: bool,
    /// Failed attempts that are charged to it, and all attempts, of the days
    /// that count.
    failed: usize,
    attempts: usize,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = self.rank as f64 / self.of.max(1) as f64;
        let level = match place {
            place if place > THIRDS.1 => "Low",
            place if place > THIRDS.0 => "Middling",
            _ => "High",
        };
        write!(
            f,
            "{level} because {}; place {} of {}; {}.",
            self.cause(level),
            grouped(self.rank),
            grouped(self.of),
            failures(self.failed, self.attempts)
        )
    }
}

impl Verdict {
    fn cause(&self, level: &str) -> String {
        let rate = format!("its rate was {:.2} times the mean", self.ratio);
        if self.is_limited {
            return format!("{rate}; it was cut to the largest share");
        }
        let Some(promised) = self.promised else {
            return rate;
        };
        // The weight is the product of both; the one further from the mean
        // decided.
        let promise = self.relative / self.ratio;
        let promises = format!("its descriptor promises {} kB/s", grouped(promised));
        match level {
            "Low" if promise < self.ratio => format!("{promises} and {rate}"),
            "High" if promise > self.ratio => format!("{promises} and {rate}"),
            "Middling" => format!("{promises} and {rate}"),
            _ => rate,
        }
    }
}

fn failures(failed: usize, attempts: usize) -> String {
    match (failed, attempts) {
        (_, 0) => "nothing was tried recently".to_owned(),
        (0, _) => "nothing failed recently".to_owned(),
        _ => format!(
            "{} of {} attempts failed recently",
            grouped(failed),
            grouped(attempts)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERDICT: Verdict = Verdict {
        rank: 6_367,
        of: 7_371,
        relative: 0.2,
        ratio: 0.25,
        promised: Some(12_000),
        is_limited: false,
        failed: 0,
        attempts: 9,
    };

    #[test]
    fn the_decisive_cause_is_named() {
        let text = VERDICT.to_string();
        assert_eq!(
            text,
            "Low because its rate was 0.25 times the mean; place 6,367 of 7,371; \
             nothing failed recently."
        );
        let slow = Verdict {
            relative: 0.02,
            promised: Some(120),
            ratio: 0.98,
            failed: 3,
            ..VERDICT
        };
        let text = slow.to_string();
        assert!(text.starts_with("Low because its descriptor promises 120 kB/s and its rate"));
        assert!(text.contains("3 of 9 attempts failed"), "{text}");
        let fast = Verdict {
            rank: 1,
            relative: 300.0,
            ratio: 1.2,
            is_limited: true,
            ..VERDICT
        };
        assert!(
            fast.to_string()
                .starts_with("High because its rate was 1.20")
        );
        assert!(fast.to_string().contains("cut to the largest share"));
    }
}
