"""N-gram language models: ARPA files, estimation, interpolation, pruning, perplexity, models as integer states."""
