"""Filterbanks and MFCC as Kaldi computes them, deltas, CMVN, splicing, Kaldi archives and the frame store."""
