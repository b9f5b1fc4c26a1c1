//! The leases that are held: by when they end, and by token. Pure: no clock, no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use crate::lease::Lease;

/// When a lease ends, in milliseconds since 1970, and its number, which no other has.
pub(crate) type Place = (u64, u64);

/// The leases that are held. What is taken out is to be ended by who takes it, without this being locked.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    by_end: BTreeMap<Place, Held>,
    /// One set for all: a token may have one lease, or all that there are.
    by_token: BTreeSet<(Arc<str>, Place)>,
    number: u64,
}

#[derive(Debug)]
struct Held {
    lease: Weak<Lease>,
    token: Option<Arc<str>>,
}

impl Leases {
    /// A place for a lease that ends at `end` at the latest, or when its token is revoked.
    pub(crate) fn place(&mut self, end: u64) -> Place {
        self.number += 1;
        (end, self.number)
    }

    /// Takes in a lease.
    pub(crate) fn enter(&mut self, place: Place, token: Option<&str>, lease: Weak<Lease>) {
        // One text for all that hold a token.
        let token = token.map(|token| {
            let known = self.of(&Arc::from(token)).next().map(|(known, _)| known.clone());
            known.unwrap_or_else(|| Arc::from(token))
        });
        if let Some(token) = &token {
            self.by_token.insert((token.clone(), place));
        }
        self.by_end.insert(place, Held { lease, token });
    }

    /// Lets go of a lease that nobody holds any more.
    pub(crate) fn leave(&mut self, place: Place) {
        self.take(place);
    }

    fn take(&mut self, place: Place) -> Option<Weak<Lease>> {
        let Held { lease, token } = self.by_end.remove(&place)?;
        if let Some(token) = token {
            self.by_token.remove(&(token, place));
        }
        Some(lease)
    }

    fn of(&self, token: &Arc<str>) -> impl Iterator<Item = &(Arc<str>, Place)> {
        let all = (token.clone(), (0, 0))..=(token.clone(), (u64::MAX, u64::MAX));
        self.by_token.range(all)
    }

    /// Takes out those whose time is over at `now`.
    pub(crate) fn expired(&mut self, now: u64) -> Vec<Weak<Lease>> {
        let mut expired = Vec::new();
        while let Some((place, _)) = self.by_end.first_key_value().filter(|((end, _), _)| *end <= now) {
            let place = *place;
            expired.extend(self.take(place));
        }
        expired
    }

    /// Takes out those of a token.
    pub(crate) fn revoked(&mut self, token: &str) -> Vec<Weak<Lease>> {
        let places: Vec<Place> = self.of(&Arc::from(token)).map(|(_, place)| *place).collect();
        places.into_iter().filter_map(|place| self.take(place)).collect()
    }

    /// The tokens that are held and can be revoked.
    pub(crate) fn tokens(&self) -> Vec<Arc<str>> {
        let mut tokens: Vec<_> = self.by_token.iter().map(|(token, _)| token.clone()).collect();
        tokens.dedup();
        tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entered(leases: &mut Leases, end: u64, token: Option<&str>) -> Place {
        let place = leases.place(end);
        leases.enter(place, token, Weak::new());
        place
    }

    #[test]
    fn each_ends_when_its_time_is_over() {
        let mut leases = Leases::default();
        for end in [30, 10, 20, 10] {
            entered(&mut leases, end, Some("t"));
        }
        assert_eq!(leases.expired(9).len(), 0);
        assert_eq!(leases.expired(20).len(), 3);
        assert_eq!(leases.tokens().len(), 1);
        assert_eq!((leases.expired(30).len(), leases.tokens().len()), (1, 0));
    }

    #[test]
    fn all_of_a_token_end_with_it_and_who_has_left_does_not() {
        let mut leases = Leases::default();
        let places = [Some("a"), Some("a"), Some("b"), None].map(|token| entered(&mut leases, 10, token));
        leases.leave(places[0]);
        leases.leave(places[0]);
        assert_eq!((leases.revoked("a").len(), leases.revoked("a").len()), (1, 0));
        leases.leave(places[1]);
        assert_eq!(leases.tokens(), [Arc::from("b")]);
        assert_eq!(leases.expired(10).len(), 2);
        assert!(leases.by_end.is_empty() && leases.by_token.is_empty());
    }
}
