"""Where tasks run: this process, or Dask workers. Nothing outside imports distributed."""
