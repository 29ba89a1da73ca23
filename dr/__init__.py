"""Lifeboat: disaster recovery of physical servers to Azure, as code."""

__version__ = "0.1.0"
