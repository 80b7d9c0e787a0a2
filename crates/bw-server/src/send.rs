//! Bodies that are made as they are sent.

use std::convert::Infallible;
use std::sync::Arc;

use bw_protocol::Content;
use bytes::{Bytes, BytesMut};
use futures::stream::unfold;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use crate::Statistics;
use crate::throttle::Throttle;

/// The source of a file's bytes.
pub(crate) enum Source {
    /// A block again and again, from this byte on; no copy is made of it.
    Block(Bytes, u64),
    /// A stream.
    Content(Content),
}

impl Source {
    /// The next bytes: at least one, and no more than `most`.
    fn next(&mut self, most: usize) -> Bytes {
        match self {
            Self::Block(block, next) => {
                // Less than the block's length, which is a usize.
                let start = (*next % block.len() as u64) as usize;
                let length = most.min(block.len() - start);
                *next += length as u64;
                block.slice(start..start + length)
            }
            Self::Content(content) => {
                let mut data = BytesMut::zeroed(most);
                content.fill(&mut data);
                data.freeze()
            }
        }
    }
}

/// The next `length` bytes of `source`, no faster than `throttle` allows.
pub(crate) fn send(
    source: Source,
    length: u64,
    throttle: Throttle,
    statistics: Arc<Statistics>,
) -> UnsyncBoxBody<Bytes, Infallible> {
    let pieces = unfold((source, length), move |(mut source, left)| {
        let (throttle, statistics) = (throttle.clone(), Arc::clone(&statistics));
        async move {
            // No more than a step, which is a usize.
            let most = left.min(throttle.step() as u64) as usize;
            if most == 0 {
                return None;
            }
            let piece = source.next(most);
            throttle.take(piece.len()).await;
            let left = left - piece.len() as u64;
            statistics.sent().add(piece.len() as u64);
            Some((Ok(Frame::data(piece)), (source, left)))
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}
