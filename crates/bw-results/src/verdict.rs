//! The scheduler's judgement of a record, kept beside it.

use serde::{Deserialize, Serialize};

use crate::{Blame, Outcome, Transfer};

/// The judgement of one record.
///
/// A record never changes; its verdict may, and can be made again from the
/// records. In JSON: `{"kind": "lower_bound", "reason": "scanner"}`, without
/// `reason` where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "reason")]
#[non_exhaustive]
pub enum Verdict {
    /// The measured rate counts as the relay's.
    Accepted,
    /// The relay carries at least the measured rate, because this one bounded
    /// it: the scanner's link, the destination or the helpers.
    LowerBound(Blame),
    /// The record gives no rate, and the relay is measured again.
    Remeasure(Remeasure),
    /// The failure counts against the relay.
    Charged,
    /// The failure says nothing of the relay, because this one is at fault:
    /// the destination or the scanner.
    Excused(Blame),
}

/// The reason for measuring a relay again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Remeasure {
    /// The scanner's link withheld too much of the transfer.
    Throttled,
    /// The helpers carried no more.
    HelperBound,
    /// The destination sent no more.
    DestinationBound,
    /// The rate contradicts what is known of the relay.
    Disputed,
    /// Other records of the same relay and scan count in its place.
    Superseded,
}

impl Verdict {
    /// The verdict on a record of which only the facts are known: imported,
    /// or made before verdicts were kept.
    ///
    /// A failure is [`Charged`](Self::Charged). A measurement without a rate
    /// is [`Remeasure`](Self::Remeasure), one whose rate somebody bounded, or
    /// part of whose counted slices the link throttled,
    /// [`LowerBound`](Self::LowerBound), any other [`Accepted`](Self::Accepted).
    pub fn default_of(outcome: &Outcome) -> Self {
        let measurement = match outcome {
            Outcome::Measured(measurement) => measurement,
            Outcome::Failed(_) => return Self::Charged,
        };
        let with_rate = |transfer: &&Transfer| transfer.rate().is_some();
        let mut transfers = measurement.transfers.iter().filter(with_rate).peekable();
        if transfers.peek().is_none() {
            return Self::Remeasure(Remeasure::Throttled);
        }
        match transfers.find_map(Transfer::bounded_by_fact) {
            Some(blame) => Self::LowerBound(blame),
            None => Self::Accepted,
        }
    }

    /// Returns whether the record's rate counts as the relay's.
    pub const fn gives_rate(&self) -> bool {
        matches!(self, Self::Accepted)
    }

    /// Returns whether the record tells a rate of the relay: its own, or one
    /// that it carries at least.
    pub const fn is_measured(&self) -> bool {
        matches!(self, Self::Accepted | Self::LowerBound(_))
    }

    /// Returns whether the record is a failure that counts against the relay.
    pub const fn is_charged(&self) -> bool {
        matches!(self, Self::Charged)
    }

    /// Its kind, as in the serialised form.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::LowerBound(_) => "lower_bound",
            Self::Remeasure(_) => "remeasure",
            Self::Charged => "charged",
            Self::Excused(_) => "excused",
        }
    }

    /// Its reason, as in the serialised form, if its kind has one.
    pub const fn reason(&self) -> Option<&'static str> {
        match self {
            Self::LowerBound(blame) | Self::Excused(blame) => Some(blame.as_str()),
            Self::Remeasure(reason) => Some(reason.as_str()),
            Self::Accepted | Self::Charged => None,
        }
    }
}

impl Verdict {
    /// The verdict with this kind and reason, as
    /// [`as_str`](Self::as_str) and [`reason`](Self::reason) give them.
    pub fn from_names(kind: &str, reason: Option<&str>) -> Option<Self> {
        match (kind, reason) {
            ("accepted", None) => Some(Self::Accepted),
            ("charged", None) => Some(Self::Charged),
            ("lower_bound", Some(by)) => Blame::from_name(by).map(Self::LowerBound),
            ("excused", Some(by)) => Blame::from_name(by).map(Self::Excused),
            ("remeasure", Some(reason)) => Remeasure::from_name(reason).map(Self::Remeasure),
            _ => None,
        }
    }
}

impl std::fmt::Display for Verdict {
    /// `lower_bound (scanner)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.reason() {
            Some(reason) => f.pad(&format!("{} ({reason})", self.as_str())),
            None => f.pad(self.as_str()),
        }
    }
}

impl Remeasure {
    /// The reason that a failure of this kind stood for while judgements were
    /// kept as failures (stores up to format 2).
    pub(crate) fn of_old_failure(kind: &str, blame: Blame) -> Option<Self> {
        match (kind, blame) {
            ("disputed", _) => Some(Self::Disputed),
            ("limited", Blame::Scanner) => Some(Self::Throttled),
            ("limited", Blame::Destination) => Some(Self::DestinationBound),
            ("limited", _) => Some(Self::HelperBound),
            _ => None,
        }
    }
}

impl Remeasure {
    /// Its name, as in the serialised form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::HelperBound => "helper_bound",
            Self::DestinationBound => "destination_bound",
            Self::Disputed => "disputed",
            Self::Superseded => "superseded",
        }
    }

    /// The reason with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Throttled,
            Self::HelperBound,
            Self::DestinationBound,
            Self::Disputed,
            Self::Superseded,
        ]
        .into_iter()
        .find(|reason| reason.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::{failed, measured};
    use crate::{Slice, StopReason};

    #[test]
    fn facts_alone_give_a_verdict() {
        assert_eq!(Verdict::default_of(&failed(1, 1)), Verdict::Charged);
        let measured = |transfer: Transfer| {
            let Outcome::Measured(mut measurement) = measured(1, 1) else {
                unreachable!()
            };
            measurement.transfers = vec![transfer];
            Verdict::default_of(&Outcome::Measured(measurement))
        };
        let slices = vec![Slice::new(Duration::from_secs(1), 5); 3];
        let transfer = Transfer::new(slices, 1, StopReason::Confident);
        assert_eq!(measured(transfer.clone()), Verdict::Accepted);
        assert_eq!(
            measured(transfer.clone().bounded_by(Some(Blame::Scanner))),
            Verdict::LowerBound(Blame::Scanner)
        );
        // Throttled where it counts, and where it does not.
        let mut throttled = transfer.clone();
        throttled.slices[0].throttled = 1;
        assert_eq!(measured(throttled.clone()), Verdict::Accepted);
        throttled.slices[2].throttled = 1;
        assert_eq!(measured(throttled), Verdict::LowerBound(Blame::Scanner));
        assert_eq!(
            measured(transfer.ending_at(2)),
            Verdict::Remeasure(Remeasure::Throttled)
        );
    }

    #[test]
    fn names_are_those_of_the_serialised_form() {
        for (verdict, text) in [
            (Verdict::Accepted, r#"{"kind":"accepted"}"#),
            (
                Verdict::LowerBound(Blame::Helper),
                r#"{"kind":"lower_bound","reason":"helper"}"#,
            ),
            (
                Verdict::Remeasure(Remeasure::HelperBound),
                r#"{"kind":"remeasure","reason":"helper_bound"}"#,
            ),
            (Verdict::Charged, r#"{"kind":"charged"}"#),
            (
                Verdict::Excused(Blame::Destination),
                r#"{"kind":"excused","reason":"destination"}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&verdict).unwrap(), text);
            assert_eq!(serde_json::from_str::<Verdict>(text).unwrap(), verdict);
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!(value["kind"], verdict.as_str());
            assert_eq!(value["reason"].as_str(), verdict.reason());
            let again = Verdict::from_names(verdict.as_str(), verdict.reason());
            assert_eq!(again, Some(verdict));
        }
        assert_eq!(Verdict::from_names("accepted", Some("scanner")), None);
        assert_eq!(Verdict::from_names("lower_bound", None), None);
        for name in [
            "throttled",
            "helper_bound",
            "destination_bound",
            "disputed",
            "superseded",
        ] {
            let reason = Remeasure::from_name(name).unwrap();
            assert_eq!(serde_json::to_value(reason).unwrap(), name);
        }
        assert_eq!(
            Verdict::LowerBound(Blame::Scanner).to_string(),
            "lower_bound (scanner)"
        );
    }
}
