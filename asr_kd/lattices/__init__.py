"""The lattice type and its store on disk."""
