//! The pages, and what they are made of.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bw_aggregate::{Aggregates, RelayAggregate, Scaled, ScannerStatistics, Standing};
use bw_file::{BytesPerSecond, Fingerprint};
use bw_results::{NetworkSnapshot, RelayFacts, UnixMillis};
use maud::PreEscaped;

use crate::bandwidth_file::{BandwidthFile, Changes};
use crate::comparison::Comparison;
use crate::directory::{Directory, Group};
use crate::family::Families;
use crate::figures::Figures;
use crate::format::utc;
use crate::layout::{self, COMPARISON, Depth, FIGURES, OVERVIEW, RELAYS, SEARCH, SORT, STYLE};
use crate::records::Records;
use crate::round::Round;
use crate::{comparison, figures, overview, relay, search};

/// Our own files that are compared over time: as many columns fit on a desk.
const OWN_FILES: usize = 7;

/// The input of a report, beside the records.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Facts {
    /// As of when it is made.
    pub now: UnixMillis,
    /// The program that makes it, with its version.
    pub software: String,
    /// The network as the newest snapshot shows it.
    pub network: Arc<NetworkSnapshot>,
    /// The facts of records and network on each relay.
    pub aggregates: Arc<Aggregates>,
    /// The answer for each relay.
    pub scaled: Arc<Scaled>,
    /// The contribution of each scanner.
    pub scanners: Vec<ScannerStatistics>,
    /// The scans, in any order.
    pub rounds: Vec<Round>,
    /// Our own files in order of time; the last one is in use.
    pub files: Vec<BandwidthFile>,
    /// Files that are compared, in the order in which they are shown; without any, our own are.
    pub compared: Vec<BandwidthFile>,
    /// The capacities of relays, where they are known for certain: in a private network or a
    /// simulation.
    pub truth: BTreeMap<Fingerprint, BytesPerSecond>,
    /// True if the server adds a page `live.html`, of the round that runs.
    pub live: bool,
}

impl Facts {
    /// Without scanners, rounds and files.
    pub fn new(
        now: UnixMillis,
        software: String,
        network: Arc<NetworkSnapshot>,
        aggregates: Arc<Aggregates>,
        scaled: Arc<Scaled>,
    ) -> Self {
        Self {
            now,
            software,
            network,
            aggregates,
            scaled,
            scanners: Vec::new(),
            rounds: Vec::new(),
            files: Vec::new(),
            compared: Vec::new(),
            truth: BTreeMap::new(),
            live: false,
        }
    }

    /// The files that are compared: without others, our own over time.
    fn compared(&self) -> &[BandwidthFile] {
        let first = self.files.len().saturating_sub(OWN_FILES);
        match self.compared.as_slice() {
            [] => &self.files[first..],
            compared => compared,
        }
    }
}

/// A report: the [addresses](Self::addresses) of its pages, each of which can be
/// [rendered](Self::render) by itself.
#[derive(Debug)]
pub struct Site {
    pub(crate) facts: Facts,
    pub(crate) records: Records,
    pub(crate) changes: Option<Changes>,
    pub(crate) comparison: Option<Comparison>,
    pub(crate) figures: Figures,
    pub(crate) directory: Directory,
    pub(crate) families: Families,
    standings: HashMap<Fingerprint, Standing>,
}

/// Where a page or file of the report is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Style,
    Search,
    Sort,
    Index,
    Overview,
    Relays,
    Group(Group),
    Relay(Fingerprint),
    Figures,
    /// A picture by its name.
    Picture(&'static str),
    /// The data of a picture.
    Data(&'static str),
    Comparison,
    ComparisonData,
}

impl Address {
    /// The path from the top of the report, with `/` between folders: letters,
    /// digits, `-` and `.` only.
    pub fn path(&self) -> String {
        match &self.0 {
            Kind::Style => "style.css".to_owned(),
            Kind::Search => "search.js".to_owned(),
            Kind::Sort => "sort.js".to_owned(),
            Kind::Index => search::PATH.to_owned(),
            Kind::Overview => OVERVIEW.to_owned(),
            Kind::Relays => RELAYS.to_owned(),
            Kind::Group(group) => group.path(),
            Kind::Relay(relay) => format!("relay/{relay}.html"),
            Kind::Figures => FIGURES.to_owned(),
            Kind::Picture(name) => format!("figure/{name}.svg"),
            Kind::Data(name) => format!("figure/{name}.csv"),
            Kind::Comparison => COMPARISON.to_owned(),
            Kind::ComparisonData => comparison::DATA.to_owned(),
        }
    }

    /// The media type of what is there, in UTF-8.
    pub const fn media_type(&self) -> &'static str {
        match &self.0 {
            Kind::Style => "text/css; charset=utf-8",
            Kind::Search | Kind::Sort | Kind::Index => "text/javascript; charset=utf-8",
            Kind::Picture(_) => "image/svg+xml",
            Kind::Data(_) | Kind::ComparisonData => "text/csv; charset=utf-8",
            _ => "text/html; charset=utf-8",
        }
    }
}

impl Site {
    /// The report of these facts and records.
    pub fn new(mut facts: Facts, records: Records) -> Self {
        facts
            .rounds
            .sort_by_key(|round| std::cmp::Reverse(round.started));
        let changes = match facts.files.as_slice() {
            [.., before, after] => Some(Changes::between(before, after)),
            _ => None,
        };
        let families = Families::of(&facts.network);
        Self {
            changes,
            comparison: Comparison::of(facts.compared()),
            figures: Figures::new(&facts, &records),
            directory: Directory::new(&facts, &families),
            families,
            standings: facts.scaled.standings(),
            facts,
            records,
        }
    }

    /// The addresses of all pages, pictures and tables, each once.
    pub fn addresses(&self) -> Vec<Address> {
        let mut kinds = vec![
            Kind::Style,
            Kind::Search,
            Kind::Sort,
            Kind::Index,
            Kind::Overview,
            Kind::Relays,
        ];
        kinds.push(Kind::Figures);
        for name in self.figures.names() {
            kinds.extend([Kind::Picture(name), Kind::Data(name)]);
        }
        if self.has_comparison() {
            kinds.extend([Kind::Comparison, Kind::ComparisonData]);
        }
        kinds.extend(self.directory.groups().map(Kind::Group));
        let relays = &self.facts.aggregates.relays;
        kinds.extend(relays.iter().map(|relay| Kind::Relay(relay.fingerprint)));
        kinds.into_iter().map(Address).collect()
    }

    /// The page at an address.
    pub fn render(&self, address: &Address) -> String {
        match &address.0 {
            Kind::Style => STYLE.to_owned(),
            Kind::Search => SEARCH.to_owned(),
            Kind::Sort => SORT.to_owned(),
            Kind::Index => search::index(self),
            Kind::Overview => overview::page(self),
            Kind::Relays => self.directory.page(self),
            Kind::Group(group) => self.directory.group_page(self, group),
            Kind::Relay(relay) => relay::page(self, relay),
            Kind::Figures => figures::page(self),
            Kind::Picture(name) => self.figures.picture(name),
            Kind::Data(name) => self.figures.data(name),
            Kind::Comparison => comparison::page(self),
            Kind::ComparisonData => self
                .comparison
                .as_ref()
                .map_or_else(String::new, Comparison::csv),
        }
    }

    /// Adds a page `live.html` to the navigation, which the caller makes by
    /// [`page_of`](Self::page_of).
    pub const fn add_live_page(&mut self) {
        self.facts.live = true;
    }

    /// A page of the caller's own at the top, with `main` as its content, in HTML. `script`
    /// keeps it up to date; without scripts it loads itself again.
    pub fn page_of(&self, title: &str, path: &str, main: &str, script: &str) -> String {
        let main = PreEscaped(main.to_owned());
        layout::moving_page(self, title, path, Depth::Top, &main, Some(script))
    }

    /// Its input, beside the records.
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The name of a relay's family: its member with the first fingerprint.
    pub fn family(&self, relay: &Fingerprint) -> Option<Fingerprint> {
        self.families.group(relay)
    }

    /// The files that are compared.
    pub(crate) fn compared(&self) -> &[BandwidthFile] {
        self.facts.compared()
    }

    pub(crate) fn has_comparison(&self) -> bool {
        self.comparison.is_some()
    }

    pub(crate) fn software(&self) -> &str {
        &self.facts.software
    }

    pub(crate) fn written(&self) -> String {
        utc(self.facts.now)
    }

    pub(crate) fn aggregate(&self, relay: &Fingerprint) -> Option<&RelayAggregate> {
        self.facts.aggregates.relay(relay)
    }

    pub(crate) fn network_facts(&self, relay: &Fingerprint) -> Option<&RelayFacts> {
        self.facts.network.relay(relay)
    }

    /// The nickname in the consensus; empty if it is not there.
    pub(crate) fn nickname(&self, relay: &Fingerprint) -> &str {
        self.aggregate(relay).map_or("", |relay| &relay.nickname)
    }

    /// The weight that was made now.
    pub(crate) fn weight(&self, relay: &Fingerprint) -> Option<u64> {
        let answer = self.facts.scaled.relay(relay)?.answer;
        answer.weight().map(bw_file::KilobytesPerSecond::value)
    }

    pub(crate) fn standing(&self, relay: &Fingerprint) -> Option<Standing> {
        self.standings.get(relay).copied()
    }

    /// The file in use.
    pub(crate) fn file(&self) -> Option<&BandwidthFile> {
        self.facts.files.last()
    }
}
