//! Whole sites: what relays say of themselves stays text, links lead somewhere, and
//! pages are small.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bw_aggregate::{AggregateOptions, Aggregates, Aggregator, Method, ScaleOptions, Scaled, scale};
use bw_file::BytesPerSecond;
use bw_report::{BandwidthFile, Facts, Records, Round, Site};
use bw_results::{
    NetworkSnapshot, Outcome, OutcomeSummary, Remeasure, ScanId, UnixMillis, Verdict, testing,
};
use scraper::{Html, Selector};

/// Text that a relay would write to get into pages.
const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'&</script><script>alert(2)</script>\u{2028}";
const RELAYS: u64 = 60;
const SCAN: ScanId = ScanId::from_bytes([1; 16]);

/// A network, its records and what they make.
struct World {
    network: Arc<NetworkSnapshot>,
    outcomes: Vec<Outcome>,
    options: AggregateOptions,
    aggregates: Arc<Aggregates>,
    scaled: Arc<Scaled>,
    verdict: fn(&Outcome) -> Verdict,
}

impl World {
    fn new(network: NetworkSnapshot, outcomes: Vec<Outcome>) -> Self {
        let options = AggregateOptions::default();
        let mut aggregator = Aggregator::new(options.clone(), &network);
        for outcome in &outcomes {
            aggregator.add(OutcomeSummary::from(outcome));
        }
        let aggregates = aggregator.finish();
        let scaled = scale(&aggregates, &ScaleOptions::default());
        Self {
            network: Arc::new(network),
            outcomes,
            options,
            aggregates: Arc::new(aggregates),
            scaled: Arc::new(scaled),
            verdict: Verdict::default_of,
        }
    }

    /// Relays of which each but one was measured `times` times and failed as often.
    fn of(relays: u64, times: u64) -> Self {
        let network = testing::snapshot(relays, 0);
        let start = network.valid_after.value();
        let mut outcomes = Vec::new();
        for relay in 1..relays {
            for time in 0..times {
                let at = start + time * 86_400_000 + relay * 1000;
                let mut measured = testing::measured(relay, at);
                if let Outcome::Measured(measurement) = &mut measured {
                    let helper = testing::fingerprint((relay + time) % 7 + 1);
                    measurement.attempt.helpers = vec![helper];
                }
                outcomes.push(measured);
                outcomes.push(testing::failed(relay, at + 10_000));
            }
        }
        // A relay that has left the consensus.
        outcomes.push(testing::measured(relays * 3, start));
        Self::new(network, outcomes)
    }

    fn now(&self) -> UnixMillis {
        let ended = self.outcomes.iter().map(Outcome::ended).max();
        ended.unwrap_or(self.network.valid_after)
    }

    fn file(&self, name: &str, change: u64) -> BandwidthFile {
        let mut text = "1790000000\nversion=1.4.0\nsoftware=bwscan\n=====\n".to_owned();
        for (index, relay) in self.scaled.relays.iter().enumerate() {
            if let Some(weight) = relay.answer.weight() {
                let weight = weight.value() + (index as u64 % 3) * change;
                text += &format!("bw={weight} node_id=${}\n", relay.aggregate.fingerprint);
            }
        }
        BandwidthFile::new(name, text.as_bytes())
    }

    /// All pages by path.
    fn pages(&self) -> BTreeMap<String, String> {
        self.pages_of(|_| ())
    }

    /// All pages by path, of facts that `change` changed.
    fn pages_of(&self, change: impl FnOnce(&mut Facts)) -> BTreeMap<String, String> {
        let mut records = Records::new(Arc::clone(&self.aggregates), self.options.clone());
        for outcome in &self.outcomes {
            records.add(HOSTILE, SCAN, outcome, (self.verdict)(outcome));
        }
        let software = "bwscan test".to_owned();
        let (aggregates, scaled) = (Arc::clone(&self.aggregates), Arc::clone(&self.scaled));
        let network = Arc::clone(&self.network);
        let mut facts = Facts::new(self.now(), software, network, aggregates, scaled);
        facts.rounds = vec![Round::new(
            SCAN,
            HOSTILE.to_owned(),
            self.network.valid_after,
        )];
        facts.files = vec![self.file("old.v3bw", 0), self.file("new.v3bw", 7)];
        facts.compared = vec![self.file(HOSTILE, 0), self.file("theirs", 500)];
        let relays = self.network.relays.iter();
        facts.truth = relays
            .map(|relay| (relay.fingerprint, BytesPerSecond::new(500_000)))
            .collect();
        change(&mut facts);
        let site = Site::new(facts, records);
        let addresses = site.addresses();
        let pages = addresses
            .iter()
            .map(|page| (page.path(), site.render(page)));
        let pages: BTreeMap<_, _> = pages.collect();
        assert_eq!(pages.len(), addresses.len(), "each path once");
        pages
    }
}

fn parse(path: &str, text: &str) -> Html {
    let page = Html::parse_document(text);
    assert_eq!(page.errors, Vec::<Cow<'_, str>>::new(), "{path}");
    page
}

/// The links of a page to others and to itself.
fn links(page: &Html) -> Vec<String> {
    let mut links = Vec::new();
    for name in ["href", "src"] {
        let selector = Selector::parse(&format!("[{name}]")).unwrap();
        let found = page
            .select(&selector)
            .filter_map(|element| element.attr(name));
        links.extend(found.map(str::to_owned));
    }
    links
}

fn count(page: &Html, selector: &str) -> usize {
    page.select(&Selector::parse(selector).unwrap()).count()
}

/// The path that a link of the page at `from` leads to.
fn resolved(from: &str, link: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        if part == ".." {
            parts.pop().unwrap();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

#[test]
fn every_page_is_html_and_every_link_leads_to_a_page() {
    let pages = World::of(RELAYS, 3).pages();
    let mut linked = BTreeSet::new();
    for (path, text) in pages.iter().filter(|(path, _)| path.ends_with(".html")) {
        let page = parse(path, text);
        for selector in [
            "title",
            "h1",
            "main",
            "meta[http-equiv=Content-Security-Policy]",
        ] {
            assert_eq!(count(&page, selector), 1, "{path}: {selector}");
        }
        assert_eq!(
            count(&page, "table"),
            count(&page, "table > caption"),
            "{path}"
        );
        assert_eq!(count(&page, "img:not([alt])"), 0, "{path}");
        assert_eq!(
            count(&page, "[style], style, script:not([src])"),
            0,
            "{path}"
        );
        for link in links(&page) {
            assert!(!link.contains(':'), "{path}: {link} leads elsewhere");
            if let Some(anchor) = link.strip_prefix('#') {
                assert_eq!(count(&page, &format!("[id={anchor}]")), 1, "{path}: {link}");
                continue;
            }
            let target = resolved(path, &link);
            assert!(pages.contains_key(&target), "{path}: {link}");
            linked.insert(target);
        }
    }
    let all: BTreeSet<String> = pages.keys().cloned().collect();
    let alone: Vec<&String> = all.difference(&linked).collect();
    assert_eq!(alone, ["search-index.js"], "nothing leads to them");
}

#[test]
fn what_others_choose_stays_text() {
    let mut world = World::of(12, 2);
    let mut network = NetworkSnapshot::clone(&world.network);
    network.relays[3].nickname = HOSTILE.to_owned();
    network.relays[3].set_version(HOSTILE);
    let victim = network.relays[3].fingerprint;
    for outcome in &mut world.outcomes {
        let attempt = match outcome {
            Outcome::Measured(measurement) => &mut measurement.attempt,
            Outcome::Failed(failure) => {
                failure.detail = HOSTILE.to_owned();
                &mut failure.attempt
            }
        };
        attempt.destination = HOSTILE.to_owned();
    }
    let pages = World::new(network, world.outcomes).pages();
    for (path, text) in pages.iter().filter(|(path, _)| path.ends_with(".html")) {
        let page = parse(path, text);
        assert_eq!(count(&page, "script:not([src$='.js'])"), 0, "{path}");
        assert_eq!(count(&page, "[onerror], img[src=x]"), 0, "{path}");
        assert!(!text.contains("<img src=x"), "{path}");
    }
    let path = format!("relay/{victim}.html");
    let page = parse(&path, &pages[&path]);
    let title = page.select(&Selector::parse("h1").unwrap()).next().unwrap();
    assert_eq!(title.text().collect::<String>(), HOSTILE);
    assert!(
        page.html().contains("<dd>&lt;img src=x onerror"),
        "the version"
    );
    assert_eq!(index(&pages).lines().count(), 13);
}

/// The lines that the search gets: one string of JSON, which is one of JavaScript.
fn index(pages: &BTreeMap<String, String>) -> String {
    let script = pages["search-index.js"].strip_prefix("bwscanIndex(");
    serde_json::from_str(script.unwrap().strip_suffix(");\n").unwrap()).unwrap()
}

#[test]
fn a_relays_page_answers_why() {
    let pages = World::of(RELAYS, 5).pages();
    let path = format!("relay/{}.html", testing::fingerprint(7));
    for text in [
        "What bounds it, and what its operator can do",
        "mean of 5 rates",
        "weight, rounded",
        "in the consensus",
        "Rate over time",
        "no answer to EXTEND2",
        "Look at the load of the processor",
    ] {
        assert!(pages[&path].contains(text), "{text}");
    }
    assert_eq!(
        count(&parse(&path, &pages[&path]), "svg.bars[aria-label]"),
        5
    );
    let page = |number| &pages[&format!("relay/{}.html", testing::fingerprint(number))];
    assert!(page(0).contains("No weight: not tried yet."));
    assert!(page(RELAYS * 3).contains("no longer in the consensus"));
    for text in [
        "Largest gains",
        "Failures",
        "extend",
        "Destinations",
        "59 of 60 relays",
    ] {
        assert!(pages["index.html"].contains(text), "{text}");
    }
}

#[test]
fn work_for_nothing_is_told() {
    let mut world = World::of(12, 2);
    assert!(!world.pages()["index.html"].contains("gave no rate"));
    world.verdict = |outcome| match outcome {
        Outcome::Measured(_) => Verdict::Remeasure(Remeasure::HelperBound),
        Outcome::Failed(_) => Verdict::Charged,
    };
    let page = &world.pages()["index.html"];
    for text in [
        "23 of 23 measurements gave no rate",
        "most often as helper bound.",
    ] {
        assert!(page.contains(text), "{text}");
    }
    assert!(page.contains("Mostly well") || page.contains("Something is wrong"));
}

#[test]
fn pages_stay_small_however_much_was_measured() {
    let pages = World::of(40, 60).pages();
    for (path, text) in &pages {
        let most = match path.as_str() {
            path if path.starts_with("relay/") => 60_000,
            "index.html" => 100_000,
            _ => continue,
        };
        assert!(text.len() <= most, "{path}: {} bytes", text.len());
    }
    let path = format!("relay/{}.html", testing::fingerprint(7));
    assert_eq!(count(&parse(&path, &pages[&path]), "svg.bars"), 40);
}

#[test]
fn without_others_our_own_files_are_compared() {
    let world = World::of(12, 2);
    let pages = world.pages_of(|facts| facts.compared.clear());
    for text in ["2 of our own bandwidth files", "old.v3bw", "new.v3bw"] {
        assert!(pages["comparison.html"].contains(text), "{text}");
    }
    let pages = world.pages_of(|facts| {
        facts.compared.clear();
        facts.files.truncate(1);
    });
    assert!(!pages.contains_key("comparison.html"));
}

#[test]
fn families_have_lists_and_are_found() {
    let mut world = World::of(12, 2);
    let mut network = NetworkSnapshot::clone(&world.network);
    let ids: Vec<_> = network
        .relays
        .iter()
        .map(|relay| relay.fingerprint)
        .collect();
    for relay in &mut network.relays {
        relay.family.clear();
    }
    network.relays[2].family = vec![ids[5]];
    network.relays[5].family = vec![ids[2]];
    world.network = Arc::new(network);
    let pages = world.pages();
    let list = &pages[&format!("list/family-{}.html", ids[2])];
    assert!(list.contains("2 relays, with "), "{list}");
    let page = &pages[&format!("relay/{}.html", ids[5])];
    assert!(page.contains("all of the family"));
    let index = index(&pages);
    let families = index.lines().filter_map(|line| line.rsplit('\t').next());
    let family = &ids[2].to_string()[..16];
    assert_eq!(families.filter(|found| *found == family).count(), 2);
}

#[test]
fn an_empty_store_gives_a_site_too() {
    let world = World::new(testing::snapshot(3, 0), Vec::new());
    let pages = world.pages();
    assert!(pages["index.html"].contains("Nothing was measured."));
    // Relays without weight and country have empty fields, the last one too.
    let fields = index(&pages);
    let fields: Vec<_> = fields
        .lines()
        .map(|line| line.split('\t').count())
        .collect();
    assert_eq!(fields, [6, 6, 6]);
    let relay = world.network.relays[0].fingerprint;
    assert!(pages.contains_key(&format!("relay/{relay}.html")));
}

#[test]
fn a_page_says_what_bounds_an_estimate_of_capacity() {
    let mut world = World::of(12, 3);
    let options = ScaleOptions::new(Method::Capacity);
    world.scaled = Arc::new(scale(&world.aggregates, &options));
    let pages = world.pages();
    let relay = world.network.relays[3].fingerprint;
    let page = parse("relay", &pages[&format!("relay/{relay}.html")]);
    let advice = Selector::parse("dl.advice dt").unwrap();
    let findings: Vec<String> = page
        .select(&advice)
        .map(|finding| finding.text().collect())
        .collect();
    let named = ["is its estimate", "of that counts", "does not count"];
    let fits = |finding: &String| named.iter().any(|words| finding.contains(words));
    assert!(findings.iter().any(fits), "{findings:?}");
}

#[test]
fn figures_have_data_and_follow_the_screen() {
    let pages = World::of(RELAYS, 4).pages();
    let name = |path: &str| {
        Some(
            path.strip_prefix("figure/")?
                .strip_suffix(".svg")?
                .to_owned(),
        )
    };
    let names: Vec<String> = pages.keys().filter_map(|path| name(path)).collect();
    for name in [
        "measured-against-advertised",
        "files",
        "ratio-by-class",
        "ratio-by-version",
        "repeatability",
        "schedule",
        "timetable",
        "transfer",
        "truth",
        "helpers",
    ] {
        assert!(
            names.iter().any(|known| known == name),
            "{name} of {names:?}"
        );
    }
    for name in names {
        let picture = &pages[&format!("figure/{name}.svg")];
        assert!(picture.contains("prefers-color-scheme"), "{name}");
        assert!(picture.len() < 150_000, "{name}: {}", picture.len());
        let data = &pages[&format!("figure/{name}.csv")];
        let columns = data.lines().next().unwrap().split(',').count();
        assert!(data.lines().count() > 1, "{name}");
        assert!(
            data.lines().all(|line| line.split(',').count() == columns),
            "{name}"
        );
    }
}
