"""Manifests (Lhotse), audio files, and validation of both."""
