"""Great Expectations' own expectations, made of those of a recipe's suites.

Great Expectations takes seconds to import: only the stage that validates imports this.
"""

import great_expectations.expectations as gxe
from great_expectations.expectations.expectation import Expectation

from aeops.data.suite import ExpectationCheck
from aeops.recipe.sections import ROW, SET, WARNING

GX_SEVERITIES = {SET: "critical", ROW: "warning", WARNING: "info"}


def to_great_expectations(check: ExpectationCheck) -> Expectation:
    """Return the expectation as Great Expectations evaluates it and shows it on its pages."""
    expectation: Expectation = getattr(gxe, check.form)(**check.arguments, severity=GX_SEVERITIES[check.severity])
    return expectation
