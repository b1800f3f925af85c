"""Lattices: their types and store, Kaldi's files, sums over paths, and what is asked of them (words, errors, confidences)."""
