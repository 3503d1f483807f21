"""Makes the network's inputs: preprocessing, perturbations and control regions."""
