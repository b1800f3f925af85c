"""Errors, typed configuration, atomic files and hashes, logging and progress, the stage runner."""
