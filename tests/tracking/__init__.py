"""The proof that no change is lost: `make prove-tracking DURATION=600 [MUTANT=name]`. See docs/tracking-proof.md."""
