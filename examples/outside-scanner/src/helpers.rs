//! A choice of helpers.

use bw_measure::{HelperChoice, HelperPolicy, HelperRequest};

/// The one relay with the most room, whatever others would say of it.
pub(crate) struct RoomiestHelper;

impl HelperPolicy for RoomiestHelper {
    fn choose(
        &mut self,
        request: &HelperRequest<'_>,
        _rng: &mut dyn rand::Rng,
    ) -> Option<HelperChoice> {
        request.allowed_positions().find_map(|position| {
            let relays = request.snapshot.relays.iter().enumerate();
            let rooms = relays
                .filter(|(_, relay)| request.may_help(relay, position))
                .map(|(index, relay)| ((request.room)(index), relay.fingerprint));
            let enough = rooms.filter(|(room, helper)| {
                *room > 0.0 && *room >= request.need && !request.avoid.contains(helper)
            });
            let (_, helper) = enough.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
            Some(HelperChoice::new(position, vec![helper]))
        })
    }
}
