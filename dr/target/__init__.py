"""Where things are found on each target: the blob store of an account, the reachable port of a VM.

The stacks never ask which target they run on; providers and commands ask here, by subscription.
"""
