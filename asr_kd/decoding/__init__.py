"""Beam search over a decoding graph, rescoring of the lattices that it keeps, and decoding of whole splits."""
