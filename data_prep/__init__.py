"""Corpus preparation: one file a corpus, `prepare_X(...)` writes manifests."""
