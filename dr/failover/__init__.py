"""Runs of a recovery plan: what is checked before, which points were selected, repair, RPO and RTO.

What a run does to Azure it does through the Pulumi project (`engine`); this room has the care around it.
"""
