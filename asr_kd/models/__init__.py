"""Networks: plain and highway DNNs as ordinary `nn.Module`s, their bundles on disk, and frame log-likelihoods."""
