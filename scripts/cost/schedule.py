"""How often a schedule runs."""

import re

from .template import CostError

MINUTES_PER_UNIT = {"minute": 1, "hour": 60, "day": 1440}
DAYS_OF_WEEK = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
# The bounds of the fields of a cron expression: minutes, hours, day of the month, month, day of the week.
BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (1, 7))


def runs_per_month(expression: str, hours: float) -> float:
    """Returns the runs in a month of this number of hours."""
    if rate := re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression):
        return hours * 60 / (int(rate[1]) * MINUTES_PER_UNIT[rate[2]])
    if cron := re.fullmatch(r"cron\((.+)\)", expression):
        fields = cron[1].split()
        if len(fields) != 6:
            raise CostError(f"{expression}: has no six fields")
        minutes, hours_of_day, days, months, weekdays = (
            _share(field, low, high) for field, (low, high) in zip(fields, BOUNDS, strict=False)
        )
        return hours * 60 * minutes * hours_of_day * days * months * weekdays
    raise CostError(f"{expression}: is neither rate(…) nor cron(…)")


def _share(field: str, low: int, high: int) -> float:
    """Returns the share of the values between these bounds that a field of a cron expression admits."""
    count = high - low + 1
    admitted: set[int] = set()
    for part in field.split(","):
        for number, day in enumerate(DAYS_OF_WEEK, start=1):
            part = part.replace(day, str(number))
        match = re.fullmatch(r"(\*|\?|\d+)(?:-(\d+))?(?:/(\d+))?", part)
        if not match:
            raise CostError(f"{field} in a cron expression is not understood")
        every, until, step = match[1] in "*?", match[2], match[3]
        first = low if every else int(match[1])
        last = int(until) if until else high if every or step else first
        admitted.update(range(first, last + 1, int(step or 1)))
    return len(admitted) / count
