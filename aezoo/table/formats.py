"""The formats in which a table is written. It is quick to import: a format is checked before a bench begins."""

import tabulate

from aezoo.errors import AezooError, did_you_mean

PROGRAMS = ("csv", "json")
"""The formats that programs read."""
FORMATS = ("rich", *PROGRAMS, *sorted(set(tabulate.tabulate_formats) - {"rich", "colon_grid"}))


def check_format(fmt: str) -> None:
    """Raise AezooError where `fmt` is not among FORMATS."""
    if fmt not in FORMATS:
        raise AezooError(f"no format {fmt!r}; give one of {', '.join(FORMATS)}." + did_you_mean(fmt, FORMATS))
