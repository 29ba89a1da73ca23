"""What builds, tests and shows the product, and is no part of it."""
