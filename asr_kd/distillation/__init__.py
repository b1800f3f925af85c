"""Knowledge distillation: soft targets of a teacher, on the fly or cached, and the frame objective q*CE + lambda*KD."""
