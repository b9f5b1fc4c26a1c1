//! How many streams somebody may have open at a time, from whatever address.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts the streams of each holder of tokens. Cheap to clone; remembers only who has one open.
#[derive(Debug, Clone)]
pub struct Shares {
    most: usize,
    open: Arc<Mutex<HashMap<u64, usize>>>,
}

/// One of the streams that a holder may have, until it is dropped. Costs nothing while it is held.
#[derive(Debug, Default)]
pub struct Share(Option<(Shares, u64)>);

impl Shares {
    /// At most `most` for each; zero: no limit.
    pub fn new(most: usize) -> Self {
        Self { most, open: Arc::default() }
    }

    /// How many each may have.
    pub fn most(&self) -> usize {
        self.most
    }

    /// One more for a holder, unless it has all that it may have. Nobody in particular is not counted.
    pub fn take(&self, holder: Option<u64>) -> Option<Share> {
        let (Some(holder), 1..) = (holder, self.most) else { return Some(Share::default()) };
        let mut open = self.lock();
        let count = open.entry(holder).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(open);
        Some(Share(Some((self.clone(), holder))))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Some((shares, holder)) = self.0.take() else { return };
        let mut open = shares.lock();
        if let Some(count) = open.get_mut(&holder) {
            *count -= 1;
            if *count == 0 {
                open.remove(&holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_holder_has_its_own_and_who_has_none_open_is_forgotten() {
        let shares = Shares::new(1);
        let first = shares.take(Some(1)).unwrap();
        assert!(shares.take(Some(1)).is_none());
        assert!(shares.take(Some(2)).is_some() && shares.take(None).is_some());
        drop(first);
        assert!(shares.lock().is_empty());
        assert!(shares.take(Some(1)).is_some());
    }
}
