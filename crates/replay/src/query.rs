//! What clients ask for: queries.
