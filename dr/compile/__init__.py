"""From model to blueprint: pure functions, one per stack purpose."""
