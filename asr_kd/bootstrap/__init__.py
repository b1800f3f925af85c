"""HMM-GMM training from a flat start; transforms of features and of speakers."""
