"""The HMM-GMM model: topology, tied-state tree, transition-ids, Gaussian mixtures and their scores."""
