"""Forced alignment: training graphs, Viterbi, alignments on disk, phones and words with their times."""
