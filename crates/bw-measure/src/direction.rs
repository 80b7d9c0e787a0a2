//! The direction of the payload.

use bw_results::{Direction, NetworkSnapshot};

/// The direction that the network's authorities ask scanners for: upload if the
/// consensus has `bwscanner_cc=2`, else download (as sbws does since 1.6.0).
///
/// In an upload the scanner's own congestion control fills the circuit; in a
/// download the exit's does, which is then measured too.
pub fn preferred_direction(network: &NetworkSnapshot) -> Direction {
    match network.param("bwscanner_cc") {
        Some(2) => Direction::Upload,
        _ => Direction::Download,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bw_results::UnixMillis;

    #[test]
    fn only_the_parameter_2_asks_for_uploads() {
        let time = UnixMillis::new(0);
        let mut network = NetworkSnapshot::new(time, time, time, [].into(), Vec::new());
        assert_eq!(preferred_direction(&network), Direction::Download);
        for (value, direction) in [
            (0, Direction::Download),
            (1, Direction::Download),
            (2, Direction::Upload),
            (3, Direction::Download),
        ] {
            network.params.insert("bwscanner_cc".to_owned(), value);
            assert_eq!(preferred_direction(&network), direction, "{value}");
        }
    }
}
