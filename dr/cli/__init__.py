"""The command line: the only room that prints to a person and ends the process.

One file per command, each with one click command of the same name; `dr.cli.main` loads them when asked for, so
that `dr validate` does not pay for `import pulumi`.
"""
