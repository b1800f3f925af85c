"""Results from counts files: results.json, RESULTS.md and the tables of the terminal."""
