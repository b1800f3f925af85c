"""Units of speech and pronunciations of words: phones, graphemes, lexicon files, and where other entries come from."""
