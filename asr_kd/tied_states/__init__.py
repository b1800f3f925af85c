"""Tied states: statistics of phones in context, questions about them, growing of the decision tree."""
