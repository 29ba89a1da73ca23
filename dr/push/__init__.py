"""Push installation: facts, blockers, plan and execution over SSH; what is put where is in `docs/agent-install.md`."""
