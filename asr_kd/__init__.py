"""asr_kd: small speech recognisers by knowledge distillation, hybrid HMM-DNN in PyTorch."""
