//! Relays in lists: by name, fingerprint, address, key, country and family, so that a
//! relay is found without a script.

use std::collections::BTreeMap;

use bw_file::Fingerprint;
use maud::{Markup, html};

use crate::family::Families;
use crate::format::{counted, grouped, percent, short};
use crate::layout::{self, Depth, RELAYS, relay_link, scrolling};
use crate::site::{Facts, Site};

/// From how many relays on fingerprints and addresses are split finer.
const MANY: usize = 1000;

/// Families that the page of all lists leads to, the largest.
const FAMILIES: usize = 60;

/// Relays with the largest weights on the first page of relays.
const TOP: usize = 50;

/// By what a list is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    Nickname,
    Fingerprint,
    Address,
    Key,
    Country,
    Family,
}

impl Order {
    const fn name(self) -> &'static str {
        match self {
            Self::Nickname => "nickname",
            Self::Fingerprint => "fingerprint",
            Self::Address => "address",
            Self::Key => "key",
            Self::Country => "country",
            Self::Family => "family",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Nickname => "By nickname",
            Self::Fingerprint => "By fingerprint",
            Self::Address => "By address",
            Self::Key => "By Ed25519 key",
            Self::Country => "By country",
            Self::Family => "By family",
        }
    }
}

/// The relays with one prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Group {
    order: Order,
    prefix: String,
}

impl Group {
    /// The relays of a family, by its first member.
    pub(crate) fn family(first: &Fingerprint) -> Self {
        Self {
            order: Order::Family,
            prefix: first.to_string(),
        }
    }

    /// Its name among those of its order.
    fn name(&self, site: &Site, relays: usize) -> String {
        match (self.order, self.prefix.as_str()) {
            (_, "") => "none".to_owned(),
            (Order::Family, first) => {
                let name = first.parse().map_or("", |first| site.nickname(&first));
                format!(
                    "{} ({relays})",
                    if name.is_empty() { &first[..8] } else { name }
                )
            }
            (_, prefix) => prefix.to_owned(),
        }
    }

    /// Letters of any case may differ only by it, and some file systems take
    /// these for the same: a letter of a key is its code.
    pub(crate) fn path(&self) -> String {
        let plain = |char: char| char.is_ascii_digit() || char.is_ascii_uppercase();
        let prefix: String = self
            .prefix
            .chars()
            .map(|char| {
                if plain(char) {
                    char.to_string()
                } else {
                    format!("x{:x}", u32::from(char))
                }
            })
            .collect();
        format!("list/{}-{prefix}.html", self.order.name())
    }

    fn title(&self, site: &Site) -> String {
        match (self.order, self.prefix.as_str()) {
            (Order::Family, first) => {
                let name = first.parse().map_or("", |first| site.nickname(&first));
                format!(
                    "The family of {}",
                    if name.is_empty() { first } else { name }
                )
            }
            (Order::Nickname, "") => "Relays without a nickname".to_owned(),
            (Order::Country, country) => format!("Relays in {country}"),
            (order, prefix) => format!("Relays whose {} begins with {prefix}", order.name()),
        }
    }
}

/// All lists.
#[derive(Debug)]
pub(crate) struct Directory {
    /// The relays of each group with what they are sorted by.
    groups: BTreeMap<Group, Vec<(String, Fingerprint)>>,
    top: Vec<Fingerprint>,
}

impl Directory {
    pub(crate) fn new(facts: &Facts, families: &Families) -> Self {
        let many = facts.aggregates.relays.len() > MANY;
        let mut groups: BTreeMap<Group, Vec<(String, Fingerprint)>> = BTreeMap::new();
        for relay in &facts.aggregates.relays {
            let network = facts.network.relay(&relay.fingerprint);
            let upper = relay.nickname.to_uppercase();
            let fingerprint = relay.fingerprint.to_string();
            let first = upper.chars().next().map(String::from).unwrap_or_default();
            let mut add = |order, prefix: String, key: String| {
                let list = groups.entry(Group { order, prefix }).or_default();
                list.push((key, relay.fingerprint));
            };
            add(Order::Nickname, first, upper);
            add(
                Order::Fingerprint,
                fingerprint[..if many { 2 } else { 1 }].to_owned(),
                fingerprint,
            );
            if let Some(address) = network.and_then(|network| network.address) {
                let text = address.to_string();
                let prefix = text.split_inclusive(['.', ':']).next().unwrap_or_default();
                add(Order::Address, prefix.to_owned(), text.clone());
            }
            if let Some(key) = relay.ed25519 {
                let text = key.to_string();
                add(Order::Key, text[..1].to_owned(), text);
            }
            if let Some(country) = network.and_then(|network| network.country) {
                add(
                    Order::Country,
                    country.to_string(),
                    relay.nickname.to_uppercase(),
                );
            }
            if let Some(first) = families.group(&relay.fingerprint) {
                add(
                    Order::Family,
                    first.to_string(),
                    relay.nickname.to_uppercase(),
                );
            }
        }
        for list in groups.values_mut() {
            list.sort_unstable();
        }
        Self {
            groups,
            top: top(facts),
        }
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = Group> + '_ {
        self.groups.keys().cloned()
    }

    /// The groups of an order that the page of all lists leads to: of families the largest.
    fn linked(&self, order: Order) -> Vec<(&Group, &Vec<(String, Fingerprint)>)> {
        let groups = self.groups.iter().filter(|(group, _)| group.order == order);
        let mut groups: Vec<_> = groups.collect();
        if order == Order::Family {
            groups.sort_by_key(|(_, relays)| std::cmp::Reverse(relays.len()));
            groups.truncate(FAMILIES);
        }
        groups
    }

    /// The page that leads to all lists.
    pub(crate) fn page(&self, site: &Site) -> String {
        let orders = [
            Order::Nickname,
            Order::Fingerprint,
            Order::Address,
            Order::Key,
            Order::Country,
            Order::Family,
        ];
        let main = html! {
            h1 { "Relays" }
            p.lead {
                (counted(site.facts.aggregates.relays.len(), "relay")) ": those of the consensus, and others "
                "that were tried in the days of this report."
            }
            @for order in orders {
                @let groups = self.linked(order);
                @if !groups.is_empty() {
                    section {
                        h2 { (order.title()) }
                        ul.letters {
                            @for (group, relays) in groups {
                                li {
                                    a href=(group.path()) title=(counted(relays.len(), "relay")) {
                                        (group.name(site, relays.len()))
                                    }
                                }
                            }
                        }
                    }
                }
            }
            section {
                h2 { "The largest weights" }
                (table(site, &self.top, "Relays with the largest weights", Depth::Top))
            }
        };
        layout::page(site, "Relays", RELAYS, Depth::Top, &main)
    }

    /// The page of one list.
    pub(crate) fn group_page(&self, site: &Site, group: &Group) -> String {
        let relays: Vec<Fingerprint> = self
            .groups
            .get(group)
            .into_iter()
            .flatten()
            .map(|entry| entry.1)
            .collect();
        let title = group.title(site);
        let share: f64 = relays
            .iter()
            .filter_map(|relay| Some(site.standing(relay)?.share))
            .sum();
        let main = html! {
            h1 { (title) }
            p {
                (counted(relays.len(), "relay")) ", with " (percent(share)) " of all weights. "
                a href="../relays.html" { "All lists" }
            }
            (table(site, &relays, &title, Depth::Folder))
        };
        layout::page(site, &title, RELAYS, Depth::Folder, &main)
    }
}

fn top(facts: &Facts) -> Vec<Fingerprint> {
    let relays = facts.scaled.relays.iter();
    let mut weights: Vec<_> = relays
        .filter_map(|relay| Some((relay.answer.weight()?, relay.aggregate.fingerprint)))
        .collect();
    weights.sort_unstable_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(&other.1)));
    weights.into_iter().take(TOP).map(|entry| entry.1).collect()
}

/// The flags as letters are known from consensus-health.
pub(crate) fn flags(flags: bw_results::RelayFlags) -> String {
    let names = [
        (flags.authority, "Authority"),
        (flags.bad_exit, "BadExit"),
        (flags.exit, "Exit"),
        (flags.fast, "Fast"),
        (flags.guard, "Guard"),
        (flags.stable, "Stable"),
    ];
    let set: Vec<&str> = names
        .into_iter()
        .filter(|flag| flag.0)
        .map(|flag| flag.1)
        .collect();
    set.join(" ")
}

fn table(site: &Site, relays: &[Fingerprint], caption: &str, depth: Depth) -> Markup {
    let table = html! {
        table {
            caption { (caption) }
            thead {
                tr {
                    th scope="col" { "Relay" }
                    th.number scope="col" { "Weight, kB/s" }
                    th.number scope="col" { "Place" }
                    th scope="col" { "Flags" }
                    th scope="col" { "Address" }
                    th scope="col" { "Fingerprint" }
                }
            }
            tbody {
                @for relay in relays {
                    @let facts = site.network_facts(relay);
                    tr {
                        th scope="row" { (relay_link(site, relay, depth)) }
                        td.number { @if let Some(weight) = site.weight(relay) { (grouped(weight)) } @else { "–" } }
                        td.number { @if let Some(standing) = site.standing(relay) { (standing.rank) } }
                        td { @if let Some(facts) = facts { (flags(facts.flags)) } @else { "not in the consensus" } }
                        td { @if let Some(address) = facts.and_then(|facts| facts.address) { (address) } }
                        td { code { (short(relay)) } }
                    }
                }
            }
        }
    };
    scrolling(caption, &table)
}
