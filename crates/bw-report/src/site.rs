//! The pages, and what they are made of.

use std::collections::{BTreeMap, HashMap};

use bw_aggregate::{Aggregates, RelayAggregate, Scaled, ScannerStatistics, Standing};
use bw_file::Fingerprint;
use bw_results::{NetworkSnapshot, RelayFacts, UnixMillis};

use crate::bandwidth_file::{BandwidthFile, Changes};
use crate::comparison::Comparison;
use crate::directory::{Directory, Group};
use crate::figures::Figures;
use crate::format::utc;
use crate::layout::{COMPARISON, FIGURES, OVERVIEW, RELAYS, SCRIPT, STYLE};
use crate::records::Records;
use crate::round::Round;
use crate::{comparison, figures, overview, relay, search};

/// What a report is made of, beside the records.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Facts<'a> {
    /// As of when it is made.
    pub now: UnixMillis,
    /// The program that makes it, with its version.
    pub software: String,
    /// The network as the newest snapshot shows it.
    pub network: &'a NetworkSnapshot,
    /// What the records and the network say of each relay.
    pub aggregates: &'a Aggregates,
    /// The answer for each relay.
    pub scaled: &'a Scaled,
    /// What each scanner contributed.
    pub scanners: &'a [ScannerStatistics],
    /// The scans, in any order.
    pub rounds: Vec<Round>,
    /// Our own files in order of time; the last one is in use.
    pub files: Vec<BandwidthFile>,
    /// Files that are compared, in the order in which they are shown.
    pub compared: Vec<BandwidthFile>,
}

impl<'a> Facts<'a> {
    /// Without scanners, rounds and files.
    pub const fn new(
        now: UnixMillis,
        software: String,
        network: &'a NetworkSnapshot,
        aggregates: &'a Aggregates,
        scaled: &'a Scaled,
    ) -> Self {
        Self {
            now,
            software,
            network,
            aggregates,
            scaled,
            scanners: &[],
            rounds: Vec::new(),
            files: Vec::new(),
            compared: Vec::new(),
        }
    }
}

/// A report: the [addresses](Self::addresses) of its pages, each of which can be
/// [rendered](Self::render) by itself.
#[derive(Debug)]
pub struct Site<'a> {
    pub(crate) facts: Facts<'a>,
    pub(crate) records: Records<'a>,
    pub(crate) changes: Option<Changes>,
    pub(crate) comparison: Option<Comparison>,
    pub(crate) figures: Figures,
    pub(crate) directory: Directory,
    standings: HashMap<Fingerprint, Standing>,
    /// Who declares whom family, of relays that do so mutually.
    families: BTreeMap<Fingerprint, Vec<Fingerprint>>,
}

/// Where a page or file of the report is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Style,
    Script,
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
            Kind::Script => "search.js".to_owned(),
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
}

impl<'a> Site<'a> {
    /// The report of these facts and records.
    pub fn new(mut facts: Facts<'a>, records: Records<'a>) -> Self {
        facts
            .rounds
            .sort_by_key(|round| std::cmp::Reverse(round.started));
        let changes = match facts.files.as_slice() {
            [.., before, after] => Some(Changes::between(before, after)),
            _ => None,
        };
        Self {
            changes,
            comparison: Comparison::of(&facts.compared),
            figures: Figures::new(&facts, &records),
            directory: Directory::new(&facts),
            standings: facts.scaled.standings(),
            families: families(facts.network),
            facts,
            records,
        }
    }

    /// The addresses of all pages, pictures and tables, each once.
    pub fn addresses(&self) -> Vec<Address> {
        let mut kinds = vec![
            Kind::Style,
            Kind::Script,
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

    /// What is at an address.
    pub fn render(&self, address: &Address) -> String {
        match &address.0 {
            Kind::Style => STYLE.to_owned(),
            Kind::Script => SCRIPT.to_owned(),
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

    pub(crate) fn has_comparison(&self) -> bool {
        self.comparison.is_some()
    }

    pub(crate) fn software(&self) -> &str {
        &self.facts.software
    }

    pub(crate) fn written(&self) -> String {
        utc(self.facts.now)
    }

    pub(crate) fn aggregate(&self, relay: &Fingerprint) -> Option<&'a RelayAggregate> {
        self.facts.aggregates.relay(relay)
    }

    pub(crate) fn network_facts(&self, relay: &Fingerprint) -> Option<&'a RelayFacts> {
        self.facts.network.relay(relay)
    }

    pub(crate) fn has_page(&self, relay: &Fingerprint) -> bool {
        self.aggregate(relay).is_some()
    }

    /// The nickname in the consensus; empty if it is not there.
    pub(crate) fn nickname(&self, relay: &Fingerprint) -> &'a str {
        self.aggregate(relay).map_or("", |relay| &relay.nickname)
    }

    /// The weight that was made now.
    pub(crate) fn weight(&self, relay: &Fingerprint) -> Option<u64> {
        let answer = self.facts.scaled.relay(relay)?.answer;
        answer.weight().map(|weight| weight.value())
    }

    pub(crate) fn standing(&self, relay: &Fingerprint) -> Option<Standing> {
        self.standings.get(relay).copied()
    }

    pub(crate) fn family(&self, relay: &Fingerprint) -> &[Fingerprint] {
        self.families.get(relay).map_or(&[], Vec::as_slice)
    }

    /// The file in use.
    pub(crate) fn file(&self) -> Option<&BandwidthFile> {
        self.facts.files.last()
    }
}

fn families(network: &NetworkSnapshot) -> BTreeMap<Fingerprint, Vec<Fingerprint>> {
    let with_family = network
        .relays
        .iter()
        .filter(|relay| !relay.family.is_empty());
    with_family
        .map(|relay| {
            let members = relay
                .family
                .iter()
                .filter_map(|member| network.relay(member));
            let mutual = members.filter(|member| member.family.contains(&relay.fingerprint));
            (
                relay.fingerprint,
                mutual.map(|member| member.fingerprint).collect(),
            )
        })
        .collect()
}
