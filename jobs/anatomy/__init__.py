"""Three classifiers of anatomy: a shallow network, a deeper one, and the deeper one trained with augmentation."""
