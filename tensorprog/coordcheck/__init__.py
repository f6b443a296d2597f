"""`check`: train at a ladder of widths, and hold the measured exponent of every tensor against the derived one."""

from tensorprog.coordcheck.run import CheckReport, Row, check

__all__ = ["CheckReport", "Row", "check"]
