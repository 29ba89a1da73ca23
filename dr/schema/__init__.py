"""From YAML to the model, with all errors at once.

`load` and `check` read a folder; `examine` is the pure part (bytes of files in). One definition of the shape
(`dr.schema.definition`) feeds validation, the editors' schema and the documentation.
"""

from dr.schema.concerns import Concern
from dr.schema.examine import Examined, examine
from dr.schema.files import check, inspect, load
from dr.schema.findings import NO_SITE, Finding

__all__ = ["NO_SITE", "Concern", "Examined", "Finding", "check", "examine", "inspect", "load"]
