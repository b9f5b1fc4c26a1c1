//! What is said: letters by chance, so that compression has no easy prey.

use super::PAYLOAD;

/// Different messages; more than a batch holds.
const KINDS: usize = 1024;

/// The texts, the same ones every time.
pub(super) fn texts() -> Vec<String> {
    // Knuth's linear congruential generator (MMIX): enough to look like chance, and always the same.
    let mut state = 1_u64;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b"abcdefghijklmnopqrstuvwxyz      "[(state >> 59) as usize])
    };
    (0..KINDS).map(|_| (0..PAYLOAD).map(|_| letter()).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_different_and_as_long_as_they_should_be() {
        let texts = texts();
        assert!(texts.iter().all(|text| text.len() == PAYLOAD));
        assert_eq!(texts.iter().collect::<std::collections::HashSet<_>>().len(), KINDS);
    }
}
