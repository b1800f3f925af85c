"""Lattices: their types and store, Kaldi's files, sums over paths, words with confidences, oracle errors."""
