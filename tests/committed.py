"""What the committed records say, looked at once for all tests."""

from functools import cache

from training.tables import RESULTS, Report, make_tables


@cache
def committed_tables():
    """Every table by its name; nobody changes them."""
    return make_tables(RESULTS / "records")


@cache
def committed_report():
    """What plots and the page are made of."""
    return Report.of([RESULTS / "records"])
