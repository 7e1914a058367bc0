"""Time-stamps in names, in the forms in which programs write them."""

from __future__ import annotations

import re

_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_HOUR, _SIXTY = r"(?:[01]\d|2[0-3])", r"[0-5]\d"
_NAME = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_WEEKDAY = r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[-_, ]{1,2})?"

_DATES = (
    rf"{_YEAR}{_MONTH}{_DAY}",
    rf"{_YEAR}-{_MONTH}-{_DAY}",
    rf"{_YEAR}_{_MONTH}_{_DAY}",
    rf"{_YEAR}\.{_MONTH}\.{_DAY}",
    *(  # 12-09-2021, of which nobody knows whether it is in September
        rf"{first}{sep}{second}{sep}{_YEAR}"
        for sep in ("-", "_", r"\.")
        for first, second in ((_DAY, _MONTH), (_MONTH, _DAY))
    ),
    rf"(?<![A-Za-z]){_WEEKDAY}{_NAME}[-_ ]{{0,2}}(?:{_DAY}|[1-9])(?:[-_, ]{{1,2}}{_YEAR})?",
    rf"{_DAY}[-_ ]?{_NAME}(?:[-_ ]?{_YEAR})?",
)
_TIMES = (
    rf"{_HOUR}{_SIXTY}(?:{_SIXTY})?",
    rf"{_HOUR}[-:.]{_SIXTY}(?:[-:.]{_SIXTY})?",
    rf"{_HOUR}_{_SIXTY}_{_SIXTY}",
    rf"{_HOUR}h{_SIXTY}(?:m?{_SIXTY}s?|m)?",
)
_ZONE = r"(?:[.,]\d{3,6})?(?:Z|\+\d\d:?\d\d|-\d\d:\d\d)?"
_DATE, _TIME = f"(?:{'|'.join(_DATES)})", f"(?:{'|'.join(_TIMES)}){_ZONE}"

_NO_DIGIT_BEFORE, _NO_DIGIT_AFTER = r"(?<!\d)", r"(?!\d)"

STAMP = re.compile(
    _NO_DIGIT_BEFORE
    + "(?:"
    + "|".join(
        (
            rf"{_DATE}(?:T|[-_ @/.,]{{1,3}}){_TIME}(?:[_ ]{_YEAR})?",  # the year last: time.ctime()
            rf"{_HOUR}[-:.]{_SIXTY}[-:.]{_SIXTY}[-_ /]{{1,2}}{_DATE}",
            rf"\d\d{_MONTH}{_DAY}[-_]{_HOUR}{_SIXTY}{_SIXTY}",  # 210912-230820
            rf"{_YEAR}{_MONTH}{_DAY}{_HOUR}{_SIXTY}{_SIXTY}",
            r"(?<!\d\.)1[4-9]\d{8}(?:\d{3}|\.\d+)?",  # (milli)seconds since 1970, from 2014 on
        )
    )
    + ")"
    + _NO_DIGIT_AFTER
)
"""A date and a time; a date alone may be a version of something."""

DATE = re.compile(rf"{_NO_DIGIT_BEFORE}{_YEAR}-{_MONTH}-{_DAY}{_NO_DIGIT_AFTER}")
"""A date alone, in the one form that is nothing else."""

SUMMARY_WRITER = re.compile(rf"(?<![A-Za-z]){_NAME}\d\d_\d\d-\d\d-\d\d(?=_|$|/)")
"""What torch's ``SummaryWriter`` puts before the host's name and the user's comment."""
