"""Adaptation of a trained network to a speaker, a room or a domain, from seconds of speech."""
