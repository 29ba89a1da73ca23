"""A site made anew: its configuration server from the vault and the key store, the stacks' state by import.

Above everything that a command uses; only `dr.cli` imports it.
"""
