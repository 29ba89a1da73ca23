"""Pulumi programs: one per purpose, each given a blueprint that has no choices left.

They never ask which target they run on, and never import `dr.local`.
"""
