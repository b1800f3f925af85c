"""Damaged inputs of every kind at every reader: `python -m tests.fuzz --inputs 2000 --seed 1` (see __main__.py)."""
