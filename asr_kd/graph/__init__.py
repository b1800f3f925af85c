"""Decoding graphs: n-gram language models (ARPA), grammar G, lexicon L and their composition with context and HMMs."""
