"""From a data set to batches. `loaders` makes them for each split, `batches` repeats and resumes them, `seeded_batches`
and `streams` make their order and randomness a function of the seed, `sharding` gives each process its part, `workers`
loads them elsewhere; `folds` splits the samples for cross-validation; `attributes`, `classes` and `methods` read what a
data set offers; `defaults` and `advice` fit the machine; `failures` and `broken_file` name what cannot be loaded."""
