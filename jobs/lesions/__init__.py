"""The lesion experiment of Eitel, Melkonyan and Ritter (arXiv 2203.13120), on slices made from one template."""
