"""The proof of recovery points: `make prove-points`, docs/points-proof.md."""
