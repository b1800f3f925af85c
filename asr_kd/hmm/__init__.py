"""Lexicon, HMM topology, tied-state tree, GMM bootstrap and forced alignment, as array code."""
