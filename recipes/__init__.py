"""Recipes: one folder a corpus, data and not code."""
