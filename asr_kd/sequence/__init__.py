"""Training at the sequence level: MMI, sMBR and their kin on lattices, lattice-level distillation."""
