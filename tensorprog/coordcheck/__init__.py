"""`check`: train at a ladder of widths, and hold the measured exponent of every tensor against the derived one."""

from tensorprog.coordcheck.report import CheckReport, Row
from tensorprog.coordcheck.run import check

__all__ = ["CheckReport", "Row", "check"]
