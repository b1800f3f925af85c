"""Word error rate and cpWER: transcripts of any format, text filters, counts per speaker, intervals, confidences."""
