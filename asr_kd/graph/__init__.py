"""Decoding graphs: grammar G, lexicon L and their composition with phonetic context and HMMs."""
