"""HMM-GMM training from a flat start: tied states, transforms of features and of speakers."""
