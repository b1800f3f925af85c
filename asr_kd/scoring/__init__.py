"""Word error rate: transcripts, counts per speaker, intervals, paired tests, weights chosen on dev."""
