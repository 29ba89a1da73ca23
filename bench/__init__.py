"""How fast replication is, beside what a person would use instead: `make bench`; story and figures: benchmarks.md."""
