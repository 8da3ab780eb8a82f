"""Evidence: benchmarks and what came out of them; not part of the installed packages."""
