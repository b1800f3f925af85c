"""Manifests (Lhotse), audio files, validation, subsets by speaker and seconds."""
