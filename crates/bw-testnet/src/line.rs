//! The line that connects a relay to everybody else: distance and capacity.
//!
//! A relay with a line listens on a port that nobody is told of. At its advertised port
//! [`serve`] listens, and passes on what comes, in both directions. Each byte passes the lines
//! of both ends: one is that of the port, and the other end is known by its address, since every
//! node has one of its own. Clients have no line. The delay is that of the port.

mod bucket;
mod front;
mod keeper;
mod pipe;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use bw_file::BytesPerSecond;
use tokio::task::JoinSet;

use self::bucket::Bucket;
pub(crate) use self::bucket::DEPTH;
use self::front::Front;
pub(crate) use self::keeper::{Keeper, NAME};
pub use self::keeper::{LineCommand, serve_lines};
use crate::manifest::{Manifest, NodeRecord};
use crate::{Error, Limit};

/// One relay's line.
#[derive(Debug)]
struct Line {
    /// Its capacity in each direction, if the line limits the relay.
    rate: Option<BytesPerSecond>,
    up: Bucket,
    down: Bucket,
}

/// All lines of a network, by the address of the relay.
type Lines = HashMap<Ipv4Addr, Arc<Line>>;

impl Line {
    fn new(rate: Option<BytesPerSecond>) -> Self {
        Self {
            rate,
            up: Bucket::new(rate),
            down: Bucket::new(rate),
        }
    }

    fn of(node: &NodeRecord) -> Self {
        let rate = (node.limit == Limit::Line).then_some(node.rate);
        Self::new(rate)
    }
}

/// The fronts of all relays that have a line; they listen.
fn fronts(manifest: &Manifest) -> Result<Vec<Front>, Error> {
    let with_line = || {
        let nodes = manifest.nodes.iter();
        nodes.filter_map(|node| Some((node, SocketAddrV4::new(node.address, node.inner_port?))))
    };
    let lines: Lines = with_line()
        .map(|(node, _)| (node.address, Arc::new(Line::of(node))))
        .collect();
    let lines = Arc::new(lines);
    with_line()
        .map(|(node, inner)| {
            Front::listen(node.or_address(), inner, node.delay(), Arc::clone(&lines))
        })
        .collect()
}

/// Passes on what comes, without end.
async fn serve(fronts: Vec<Front>) -> Result<(), Error> {
    let mut serving = JoinSet::new();
    for front in fronts {
        serving.spawn(front.serve());
    }
    while let Some(ended) = serving.join_next().await {
        ended.map_err(|error| {
            Error::new(crate::ErrorKind::Io, "a relay's line").with_source(error)
        })??;
    }
    Ok(())
}
