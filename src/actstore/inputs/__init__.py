"""What the network sees: preprocessing, perturbations and control regions."""
