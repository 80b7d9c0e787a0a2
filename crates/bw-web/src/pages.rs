//! The pages of one moment.

use std::collections::HashMap;

use bw_file::Fingerprint;
use bw_report::{Address, Site};

use crate::answer::Answer;
use crate::api;

/// A report: relays' pages are made when somebody asks, all others at once.
pub(crate) struct Pages {
    site: Site,
    made: HashMap<String, Answer>,
    relays: HashMap<String, Address>,
    pub(crate) status: Answer,
    pub(crate) rounds: Answer,
}

impl Pages {
    pub(crate) fn new(site: Site) -> Self {
        let (mut made, mut relays) = (HashMap::new(), HashMap::new());
        for address in site.addresses() {
            let path = address.path();
            if path.starts_with("relay/") {
                relays.insert(path, address);
            } else {
                let answer = Answer::new(address.media_type(), site.render(&address));
                made.insert(path, answer);
            }
        }
        Self {
            status: Answer::json(&api::status(&site)),
            rounds: Answer::json(&api::rounds(&site)),
            site,
            made,
            relays,
        }
    }

    /// The answer at a path from the top.
    pub(crate) fn page(&self, path: &str) -> Option<Answer> {
        if let Some(answer) = self.made.get(path) {
            return Some(answer.clone());
        }
        let address = self.relays.get(path)?;
        Some(Answer::new(address.media_type(), self.site.render(address)))
    }

    pub(crate) fn relay(&self, fingerprint: &Fingerprint) -> Option<Answer> {
        api::relay(&self.site, fingerprint).map(|relay| Answer::json(&relay))
    }

    pub(crate) fn relays(&self, query: &api::RelaysQuery) -> Answer {
        Answer::json(&api::relays(&self.site, query))
    }

    /// A page of this server's own, in the report's frame.
    pub(crate) fn framed(&self, title: &str, path: &str, main: &str, script: &str) -> String {
        self.site.page_of(title, path, main, script)
    }
}
