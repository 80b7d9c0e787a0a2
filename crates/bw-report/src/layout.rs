//! The frame that all pages have in common.

use bw_file::Fingerprint;
use maud::{DOCTYPE, Markup, html};

use crate::format::short;
use crate::site::Site;

/// The style sheet.
pub(crate) const STYLE: &str = include_str!("style.css");
/// The search; pages are complete without it.
pub(crate) const SEARCH: &str = include_str!("search.js");
/// The sorting of tables, without which they are as they were written.
pub(crate) const SORT: &str = include_str!("sort.js");

/// Nothing but this site's own files; no inline script or style.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'";

/// Where a page is: how it reaches the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    Top,
    Folder,
}

impl Depth {
    /// The prefix of a path from the top.
    pub(crate) const fn root(self) -> &'static str {
        match self {
            Self::Top => "",
            Self::Folder => "../",
        }
    }
}

/// The pages of the navigation.
pub(crate) const OVERVIEW: &str = "index.html";
pub(crate) const RELAYS: &str = "relays.html";
pub(crate) const FIGURES: &str = "figures.html";
pub(crate) const COMPARISON: &str = "comparison.html";
pub(crate) const LIVE: &str = "live.html";

/// A whole page; `here` is its place in the navigation.
pub(crate) fn page(site: &Site, title: &str, here: &str, depth: Depth, main: &Markup) -> String {
    moving_page(site, title, here, depth, main, None)
}

/// A page that `script` keeps up to date, or that loads itself again where there are none.
pub(crate) fn moving_page(
    site: &Site,
    title: &str,
    here: &str,
    depth: Depth,
    main: &Markup,
    script: Option<&str>,
) -> String {
    let root = depth.root();
    let navigation = [
        (OVERVIEW, "Overview", true),
        (RELAYS, "Relays", true),
        (FIGURES, "Figures", true),
        (COMPARISON, "Comparison", site.has_comparison()),
        (LIVE, "Live", site.facts.live),
    ];
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (title) " – bwscan" }
                link rel="stylesheet" href=(format!("{root}style.css"));
                script src=(format!("{root}search.js")) defer {}
                script src=(format!("{root}sort.js")) defer {}
                @if let Some(script) = script {
                    script src=(format!("{root}{script}")) defer {}
                    noscript { meta http-equiv="refresh" content="5"; }
                }
            }
            body {
                a.skip href="#main" { "Skip to content" }
                header.top {
                    nav aria-label="Pages" {
                        ul {
                            @for (path, name, _) in navigation.into_iter().filter(|page| page.2) {
                                li {
                                    a href=(format!("{root}{path}"))
                                        aria-current=[(path == here).then_some("page")] { (name) }
                                }
                            }
                        }
                    }
                    div #search data-root=(root) {}
                }
                main #main { (main) }
                footer {
                    p {
                        "Made by " (site.software()) " at " (site.written()) " UTC. "
                        "Rates count payload; 1 kB is 1000 bytes."
                    }
                }
            }
        }
    };
    markup.into_string()
}

/// A relay's name, as a link to its page if it has one.
pub(crate) fn relay_link(site: &Site, relay: &Fingerprint, depth: Depth) -> Markup {
    let known = site.aggregate(relay);
    let name = known.map_or("", |known| &known.nickname);
    let text = html! {
        @if name.is_empty() { code { (short(relay)) } } @else { (name) }
    };
    html! {
        @if known.is_some() {
            a href=(relay_path(relay, depth)) title=(relay) { (text) }
        } @else {
            span title=(relay) { (text) }
        }
    }
}

/// The path to a relay's page.
pub(crate) fn relay_path(relay: &Fingerprint, depth: Depth) -> String {
    match depth {
        Depth::Top => format!("relay/{relay}.html"),
        Depth::Folder => format!("../relay/{relay}.html"),
    }
}

/// A table that may be wider than the screen: it scrolls by itself, with the
/// keyboard too.
pub(crate) fn scrolling(label: &str, table: &Markup) -> Markup {
    html! {
        div.scroll role="region" aria-label=(label) tabindex="0" { (table) }
    }
}

/// The head of a column.
pub(crate) enum Column<'a> {
    Text(&'a str),
    /// Set to the right.
    Number(&'a str),
}

/// A table with the head and `rows`, which [scrolls](scrolling) by itself.
pub(crate) fn table(label: &str, caption: &str, columns: &[Column<'_>], rows: &Markup) -> Markup {
    scrolling(
        label,
        &html! {
            table {
                caption { (caption) }
                thead { tr {
                    @for column in columns {
                        @match column {
                            Column::Text(head) => { th scope="col" { (head) } }
                            Column::Number(head) => { th.number scope="col" { (head) } }
                        }
                    }
                } }
                tbody { (rows) }
            }
        },
    )
}

/// Figures with their names.
pub(crate) fn facts<'a>(facts: impl IntoIterator<Item = (&'a str, Markup)>) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in facts {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}
