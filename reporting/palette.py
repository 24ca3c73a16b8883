"""Colours of the methods, in figures and on the page."""

from collections.abc import Sequence

from attribution import CONTROLS

# The first six are Okabe & Ito's, which people with any kind of colour vision can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F", "#7F3C8D", "#882255", "#44AA99")
CONTROL_COLOUR = "#444444"


def colours_of(methods: Sequence[str]) -> dict[str, str]:
    """A colour for each method, grey for the controls."""
    attributed = [method for method in methods if method not in CONTROLS]
    colours = {method: COLOURS[place % len(COLOURS)] for place, method in enumerate(attributed)}
    return {method: colours.get(method, CONTROL_COLOUR) for method in methods}
