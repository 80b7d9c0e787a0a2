//! Lists of points in time, as result lines have them: up to 120 in a line,
//! nearly always an hour apart.

use std::fmt;

use bw_results::UnixMillis;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// The most times of a list that are kept; sbws keeps 120.
const LIMIT: usize = 10_000;

/// Points in time in whole seconds, in the order of the list, as runs of equal
/// steps: 120 hourly ones take a dozen bytes. At most 10,000 are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Run>")]
pub struct Times(Vec<Run>);

impl TryFrom<Vec<Run>> for Times {
    type Error = &'static str;

    fn try_from(runs: Vec<Run>) -> Result<Self, &'static str> {
        let mut count = 0;
        for run in &runs {
            count += run.count as usize;
            let span = u64::from(run.count) * u64::from(run.step);
            if run.first.checked_add(span).is_none() {
                return Err("a time beyond all times");
            }
        }
        if count > LIMIT {
            return Err("too many times");
        }
        Ok(Self(runs))
    }
}

/// `count` times from `first` on, `step` seconds apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    #[serde(rename = "t")]
    first: u64,
    #[serde(rename = "s")]
    step: u32,
    #[serde(rename = "n")]
    count: u32,
}

impl Times {
    /// A list of these times, in Unix seconds.
    pub fn new(times: impl IntoIterator<Item = u64>) -> Self {
        let mut list = Self::default();
        for time in times.into_iter().take(LIMIT) {
            list.push(time);
        }
        list
    }

    /// The number of times.
    pub fn len(&self) -> usize {
        self.0.iter().map(|run| run.count as usize).sum()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The times, in Unix seconds.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().flat_map(|run| {
            (0..u64::from(run.count)).map(|index| run.first + index * u64::from(run.step))
        })
    }

    fn push(&mut self, time: u64) {
        if let Some(run) = self.0.last_mut() {
            if run.count == 1
                && let Some(step) = time.checked_sub(run.first)
                && let Ok(step) = u32::try_from(step)
            {
                run.step = step;
            }
            let span = u64::from(run.count) * u64::from(run.step);
            if run.first.checked_add(span) == Some(time) {
                run.count += 1;
                return;
            }
        }
        self.0.push(Run {
            first: time,
            step: 0,
            count: 1,
        });
    }
}

/// A list in a result line: of ISO times, with or without `+00:00`. What is no
/// list counts as none (releases before 1.2.0 wrote numbers), what is no time
/// is left out.
pub(super) fn from_line<'de, D: Deserializer<'de>>(line: D) -> Result<Times, D::Error> {
    line.deserialize_any(ListVisitor)
}

/// Visits what can be in a list's place.
struct ListVisitor;

/// One element: a time or anything else.
struct Element(Option<u64>);

macro_rules! anything_else {
    ($result:expr) => {
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($result)
        }
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok($result)
        }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok($result)
        }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok($result)
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($result)
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok($result)
        }
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of times")
        }
    };
}

impl<'de> Visitor<'de> for ListVisitor {
    type Value = Times;

    anything_else!(Times::default());

    fn visit_str<E>(self, _: &str) -> Result<Times, E> {
        Ok(Times::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Times, A::Error> {
        let mut times = Times::default();
        let mut left = LIMIT;
        while let Some(Element(time)) = list.next_element()? {
            if let Some(time) = time
                && left > 0
            {
                times.push(time);
                left -= 1;
            }
        }
        Ok(times)
    }
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ElementVisitor;
        impl<'de> Visitor<'de> for ElementVisitor {
            type Value = Element;

            anything_else!(Element(None));

            fn visit_str<E>(self, text: &str) -> Result<Element, E> {
                Ok(Element(parse_iso(text)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Element, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Element(None))
            }
        }
        deserializer.deserialize_any(ElementVisitor)
    }
}

/// A time as result lines have it, in Unix seconds.
pub(crate) fn parse_iso(text: &str) -> Option<u64> {
    UnixMillis::parse_iso(text).map(UnixMillis::as_secs)
}

/// The same form, from Unix seconds.
pub(crate) fn format_iso(seconds: u64) -> String {
    UnixMillis::from_secs(seconds).to_iso()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Times {
        from_line(&mut serde_json::Deserializer::from_str(json)).unwrap()
    }

    #[test]
    fn every_list_is_kept_in_order() {
        for times in [
            vec![],
            vec![5],
            vec![5, 5, 5],
            vec![9, 5, 7, 9, 11, 100, 3],
            (0..120).map(|hour| 1_790_000_000 + hour * 3600).collect(),
            vec![0, u64::from(u32::MAX) + 7, 1],
        ] {
            let list = Times::new(times.clone());
            assert_eq!(list.iter().collect::<Vec<_>>(), times);
            assert_eq!(list.len(), times.len());
            let bytes = postcard::to_stdvec(&list).unwrap();
            assert_eq!(postcard::from_bytes::<Times>(&bytes).unwrap(), list);
        }
    }

    #[test]
    fn what_no_sbws_wrote_is_bounded() {
        for hostile in [
            r#"[{"t": 0, "s": 1, "n": 4294967295}]"#,
            r#"[{"t": 18446744073709551615, "s": 1, "n": 2}]"#,
            r#"[{"t": 0, "s": 0, "n": 9999}, {"t": 0, "s": 0, "n": 9999}]"#,
        ] {
            assert!(serde_json::from_str::<Times>(hostile).is_err(), "{hostile}");
        }
        assert_eq!(Times::new((0..20_000).map(|n| n * n)).len(), 10_000);
        assert_eq!(Times::new([u64::MAX, 0, u64::MAX]).len(), 3);
    }

    #[test]
    fn both_forms_of_time_and_what_is_none() {
        let naive = parse(r#"["2026-11-18T11:30:00", "2026-11-18T12:30:00"]"#);
        let aware = parse(r#"["2026-11-18T11:30:00+00:00", "2026-11-18T12:30:00.250+00:00"]"#);
        assert_eq!(naive, aware);
        assert_eq!(naive.iter().next(), Some(1_795_001_400));
        assert_eq!(format_iso(1_795_001_400), "2026-11-18T11:30:00");
        for none in ["7", "null", "\"x\"", "{\"a\": [1]}", "true", "-1.5"] {
            assert!(parse(none).is_empty(), "{none}");
        }
        let odd = parse(r#"[null, 1, "noon", [2], {"a": 1}, "2026-11-18T11:30:00"]"#);
        assert_eq!(odd.len(), 1);
    }
}
