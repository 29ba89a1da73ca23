"""What every Pulumi provider of ours is built on: serving, errors, values, differences, progress.

Below `dr.local` (the stand-in) and `dr.provider` (our own types), so that both behave the same way: errors are one
line with a remedy, a half-made resource is kept in the state, progress shows in the status line, and the process
ends with the engine that started it. Facts about the SDK that this room answers to are named where they matter.
"""
