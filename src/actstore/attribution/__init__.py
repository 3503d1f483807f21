"""Where in the image: how a network's scores and channels depend on its input."""
