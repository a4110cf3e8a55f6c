"""Units of measurement, as far as two answers with different ones need to be told apart."""

import re
from fractions import Fraction

_UNITS = {
    "length": "mm:1/1000 millimeter:1/1000 millimetre:1/1000 cm:1/100 centimeter:1/100 centimetre:1/100 m:1 meter:1 "
    "metre:1 km:1000 kilometer:1000 kilometre:1000 米:1 厘米:1/100 千米:1000 公里:1000",
    "imperial length": "in:1 inch:1 inche:1 ft:12 foot:12 feet:12 yd:36 yard:36 mi:63360 mile:63360",
    "time": "s:1 sec:1 second:1 min:60 minute:60 h:3600 hr:3600 hour:3600 day:86400 week:604800",
    "mass": "mg:1/1000 g:1 gram:1 kg:1000 kilogram:1000 克:1 千克:1000 公斤:1000",
    "volume": "ml:1/1000 milliliter:1/1000 millilitre:1/1000 l:1 liter:1 litre:1",
    "angle": "degree:1 deg:1",
    "arc": "rad:1 radian:1",
    "count": "one:1 dozen:12 hundred:100 thousand:1000 million:1000000 billion:1000000000 trillion:1000000000000",
    "forenoon": "am:1",
    "afternoon": "pm:1",
    "money": "dollar:1 usd:1 cent:1/100",
}
_SCALES = {
    name: (kind, Fraction(scale))
    for kind, entries in _UNITS.items()
    for name, scale in (entry.split(":") for entry in entries.split())
}
_RATES = {"mph": "mi/h", "kph": "km/h", "kmh": "km/h", "kmph": "km/h", "mps": "m/s"}
_POWER = re.compile(r"(?:\^(\d)|([23]))$")


def factor(unit: str, other: str) -> Fraction | None:
    """How many of the other unit one unit is: 1 where either is unknown (units are mostly left out), None where the
    two are known and measure different things, as metres and seconds.
    """
    one, two = _known(unit), _known(other)
    if one is None or two is None:
        return Fraction(1)
    return one[1] / two[1] if one[0] == two[0] else None


def measures_degrees(unit: str) -> bool:
    """Whether a unit is degrees of an angle."""
    return unit in ("degree", "degrees", "deg")


def is_count(unit: str) -> bool:
    """Whether a unit says how many, as `million` and `million people`."""
    return bool(unit) and _SCALES.get(unit.split()[0], ("",))[0] == "count"


def _known(unit: str) -> tuple[str, Fraction] | None:
    unit = _RATES.get(unit, unit)
    over, _, under = unit.replace(" per ", "/").partition("/")
    if under:
        parts = [_known(over.strip()), _known(under.strip())]
        (kind, scale), (by, each) = (part or ("", Fraction(1)) for part in parts)
        return (f"{kind}/{by}", scale / each) if all(parts) and not kind.startswith("money") else None
    power = 1
    unit = unit.split()[0] if is_count(unit) else unit
    for word, size in (("square ", 2), ("sq ", 2), ("cubic ", 3), ("cu ", 3)):
        if unit.startswith(word):
            power, unit = size, unit.removeprefix(word)
    found = _POWER.search(unit)
    if found:
        power, unit = int(found.group(1) or found.group(2)), unit[: found.start()]
    known = _SCALES.get(unit) or _SCALES.get(unit.removesuffix("s")) or _SCALES.get(unit.removesuffix("es"))
    return (f"{known[0]}^{power}", known[1] ** power) if known else None
