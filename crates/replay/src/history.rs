//! A run's history, over archive and Redis as one.
