//! Outcomes as they are read, those of older software brought up to date.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::{
    Attempt, Blame, Failure, FailureKind, Measurement, Outcome, Remeasure, Slice, Stage,
    StopReason, Timings, Transfer, UnixMillis, Verdict,
};

/// An outcome as it was read, and the verdict that an old record implies.
///
/// Stores up to format 2 kept a measurement that was not believed as a failure
/// of kind `limited` or `disputed`, without its slices. It becomes a measurement
/// with the bytes of that failure and without a rate.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Form")]
#[non_exhaustive]
pub struct Judged {
    /// The outcome, as software of today makes it.
    pub outcome: Outcome,
    /// The verdict, if the record was one of old.
    pub implied: Option<Verdict>,
}

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Judged::deserialize(deserializer)?.outcome)
    }
}

/// The serialised form.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    Measured(Measurement),
    Failed(FailureForm),
}

/// A [`Failure`] whose kind may be one of old.
#[derive(Deserialize)]
struct FailureForm {
    attempt: Attempt,
    ended: UnixMillis,
    timings: Timings,
    stage: Stage,
    kind: String,
    blame: Blame,
    detail: String,
    bytes: u64,
}

impl TryFrom<Form> for Judged {
    type Error = String;

    fn try_from(form: Form) -> Result<Self, String> {
        let failure = match form {
            Form::Measured(measurement) => {
                return Ok(Self {
                    outcome: Outcome::Measured(measurement),
                    implied: None,
                });
            }
            Form::Failed(failure) => failure,
        };
        if let Some(reason) = Remeasure::of_old_failure(&failure.kind, failure.blame) {
            let (attempt, ended, timings) = (failure.attempt, failure.ended, failure.timings);
            return Ok(Self {
                outcome: without_rate(attempt, ended, timings, failure.bytes, reason),
                implied: Some(Verdict::Remeasure(reason)),
            });
        }
        let kind = FailureKind::from_name(&failure.kind)
            .ok_or_else(|| format!("unknown kind of failure {:?}", failure.kind))?;
        Ok(Self {
            outcome: Outcome::Failed(Failure {
                attempt: failure.attempt,
                ended: failure.ended,
                timings: failure.timings,
                stage: failure.stage,
                kind,
                blame: failure.blame,
                detail: failure.detail,
                bytes: failure.bytes,
            }),
            implied: None,
        })
    }
}

/// A measurement of which only the bytes are left.
fn without_rate(
    attempt: Attempt,
    ended: UnixMillis,
    timings: Timings,
    bytes: u64,
    reason: Remeasure,
) -> Outcome {
    let stop = match reason {
        Remeasure::Throttled => StopReason::Throttled,
        _ => StopReason::TimeLimit,
    };
    let transfer = Transfer::new(vec![Slice::new(Duration::ZERO, bytes)], 0, stop);
    Outcome::Measured(Measurement::new(attempt, ended, timings, vec![transfer]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{failed, measured};

    #[test]
    fn judgements_of_old_become_measurements_without_a_rate() {
        let Outcome::Failed(mut failure) = failed(1, 1_000) else {
            unreachable!()
        };
        failure.bytes = 54_321;
        let text = serde_json::to_string(&Outcome::Failed(failure.clone())).unwrap();
        for (kind, blame, reason) in [
            ("limited", "scanner", Remeasure::Throttled),
            ("limited", "helper", Remeasure::HelperBound),
            ("limited", "destination", Remeasure::DestinationBound),
            ("disputed", "helper", Remeasure::Disputed),
        ] {
            let text = text
                .replace(r#""timeout""#, &format!("{kind:?}"))
                .replace(r#""path""#, &format!("{blame:?}"));
            let judged: Judged = serde_json::from_str(&text).unwrap();
            assert_eq!(judged.implied, Some(Verdict::Remeasure(reason)), "{text}");
            let Outcome::Measured(measurement) = judged.outcome else {
                panic!("{text}")
            };
            assert_eq!(measurement.attempt, failure.attempt);
            assert_eq!(measurement.bytes(), 54_321);
            assert_eq!(measurement.rates().next(), None);
        }
        let unknown = text.replace("timeout", "cosmic_rays");
        let error = serde_json::from_str::<Outcome>(&unknown).unwrap_err();
        assert!(error.to_string().contains("cosmic_rays"), "{error}");
    }

    #[test]
    fn other_outcomes_are_read_as_written() {
        for outcome in [measured(1, 1_000), failed(2, 1_000)] {
            let text = serde_json::to_string(&outcome).unwrap();
            let judged: Judged = serde_json::from_str(&text).unwrap();
            assert_eq!((judged.outcome, judged.implied), (outcome, None));
        }
    }
}
