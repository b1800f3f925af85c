"""Manifests (Lhotse), audio files, resampling as Kaldi does it, and validation."""
