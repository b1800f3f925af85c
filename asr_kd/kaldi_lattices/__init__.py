"""Kaldi's lattice archives, text and binary, read and written."""
