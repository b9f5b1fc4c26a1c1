//! A bounded cache: what was used last stays. Pure.

use std::collections::HashMap;
use std::hash::Hash;

/// Values by key, as many as weigh no more than the limit together.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    limit: usize,
    weight: usize,
    uses: u64,
    held: HashMap<K, Held<V>>,
}

#[derive(Debug)]
struct Held<V> {
    value: V,
    weight: usize,
    used: u64,
}

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, weight: 0, uses: 0, held: HashMap::new() }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        self.uses += 1;
        let held = self.held.get_mut(key)?;
        held.used = self.uses;
        Some(held.value.clone())
    }

    /// Puts a value in, in place of the one that is there, and lets those go that were not used for longest.
    /// What weighs more than all together may is not kept.
    pub(crate) fn put(&mut self, key: K, value: V, weight: usize) {
        self.remove(&key);
        if weight > self.limit {
            return;
        }
        while self.weight + weight > self.limit {
            let oldest = self.held.iter().min_by_key(|(_, held)| held.used).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            self.remove(&oldest);
        }
        self.uses += 1;
        self.weight += weight;
        self.held.insert(key, Held { value, weight, used: self.uses });
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if let Some(held) = self.held.remove(key) {
            self.weight -= held.weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes() {
        let mut cache = Cache::new(10);
        cache.put("a", 1, 4);
        cache.put("b", 2, 4);
        assert_eq!(cache.get(&"a"), Some(1));
        cache.put("c", 3, 4);
        assert_eq!((cache.get(&"a"), cache.get(&"b"), cache.get(&"c")), (Some(1), None, Some(3)));
        cache.put("a", 5, 1);
        assert_eq!((cache.get(&"a"), cache.weight), (Some(5), 5));
        cache.put("huge", 9, 11);
        assert_eq!((cache.get(&"huge"), cache.get(&"a")), (None, Some(5)));
    }
}
