"""What the values of label maps are and how they look: `synthesis.json`, read and checked.

The format is described in `schema.json`; `brain.json` beside it is a complete example.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.errors import InputError
from ...core.i18n import tr as _
from ...core.json_file import read_json
from ...core.schema import FieldError, conform

FILE_NAME = "synthesis.json"
SHIPPED = Path(__file__).parent
BACKGROUND = 0


@dataclass(frozen=True)
class LabelValue:
    """One value of the label maps.

    Attributes:
        structure: the value it counts as (its own for a structure), 0 for background.
    """

    value: int
    tissue: str
    name: str = ""
    structure: int = BACKGROUND
    inside: bool = False
    rim: bool = False


@dataclass(frozen=True)
class Tissue:
    """The intensity of a tissue.

    Attributes:
        intensity: mean by contrast.
        between: its range in any other contrast.
        share: its range in any other contrast.
    """

    intensity: dict[str, float] = field(default_factory=dict)
    between: tuple[str, str] | None = None
    share: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Halo:
    """A band of a tissue within some structures and beside others, as around ventricles.

    Attributes:
        beside: values.
        within: values.
    """

    beside: tuple[int, ...]
    within: tuple[int, ...]
    tissue: str


@dataclass(frozen=True)
class Settings:
    """Label maps as data.

    The program numbers what it meets twice: a *source* is 0 for the background or 1 + the position of a value in
    `values`; a *class* is 0 or 1 + the position of a structure among the named values. Classes are the labels of the
    model.

    Attributes:
        totals: names of sums of structures, with their values.
    """

    name: str
    subject: str
    modality: str
    channel: str
    values: tuple[LabelValue, ...]
    mirrored: tuple[tuple[int, int], ...]
    tissues: dict[str, Tissue]
    license: str = ""
    citation: str = ""
    totals: tuple[tuple[str, tuple[int, ...]], ...] = ()
    halos: tuple[Halo, ...] = ()

    @functools.cached_property
    def structures(self) -> tuple[LabelValue, ...]:
        """The values that the model segments, in the order of their classes (from 1)."""
        return tuple(value for value in self.values if value.name)

    @functools.cached_property
    def source_classes(self) -> tuple[int, ...]:
        """Class of each source."""
        number = {value.value: n for n, value in enumerate(self.structures, start=1)} | {BACKGROUND: 0}
        return (0, *(number[value.structure] for value in self.values))

    @functools.cached_property
    def source_tissues(self) -> tuple[str | None, ...]:
        """Tissue of each source; None for the background."""
        return (None, *(value.tissue for value in self.values))

    @functools.cached_property
    def mirrored_sources(self) -> tuple[int, ...]:
        """The source that each source becomes in a mirror image."""
        return _swapped(len(self.values) + 1, self._pairs([value.value for value in self.values]))

    @functools.cached_property
    def class_pairs(self) -> tuple[tuple[int, int], ...]:
        """Classes (left, right) that mirror each other."""
        return self._pairs([value.value for value in self.structures])

    @functools.cached_property
    def mirrored_classes(self) -> tuple[int, ...]:
        """The class that each class becomes in a mirror image."""
        return _swapped(len(self.structures) + 1, self.class_pairs)

    @functools.cached_property
    def tissue_groups(self) -> tuple[str, ...]:
        """Tissues of the structures that a network distinguishes, in the order of `tissues`."""
        used = {value.tissue for value in self.structures}
        return tuple(name for name in self.tissues if name in used)

    @functools.cached_property
    def class_tissues(self) -> tuple[int, ...]:
        """Number of each class's tissue group, from 1; 0 for the background."""
        return (0, *(1 + self.tissue_groups.index(value.tissue) for value in self.structures))

    @functools.cached_property
    def contrasts(self) -> tuple[str, ...]:
        """Contrasts of which the intensity of every tissue is known."""
        first = next(iter(self.tissues.values())).intensity
        return tuple(name for name in first if all(name in tissue.intensity for tissue in self.tissues.values()))

    def _pairs(self, values: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Return the mirrored pairs as positions in a list of values."""
        position = {value: n for n, value in enumerate(values, start=1)}
        return tuple((position[a], position[b]) for a, b in self.mirrored if a in position and b in position)


def find_settings(folder: Path, requested: str = "") -> Path:
    """Return the settings file: a given path or the name of one that ships with LightSeg, else the one beside the maps.

    Raises:
        InputError: if there is none.
    """
    if requested:
        shipped = SHIPPED / f"{requested}.json"
        path = shipped if shipped.is_file() and shipped.stem != "schema" else Path(requested)
    else:
        path = folder / FILE_NAME
    if not path.is_file():
        raise InputError(
            _(
                "{file} does not exist, so the meaning of the label values is not known. "
                "Put {name} next to the label maps, or give a file with --settings."
            ).format(file=path, name=FILE_NAME)
        )
    return path


def read_settings(path: Path) -> Settings:
    """Read and check a settings file.

    Raises:
        InputError: that names the file and the field.
    """
    try:
        return settings_from_dict(read_json(path))
    except FieldError as error:
        raise InputError(
            _("{file} is not valid: {reason}. Correct this field.").format(file=path.name, reason=error)
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(
            _("{file} cannot be read ({reason}). Correct the file.").format(file=path.name, reason=error)
        ) from error


def settings_from_dict(data: Any) -> Settings:
    """Return settings of a JSON object.

    Raises:
        FieldError: that names the field.
    """
    schema = dict(json.loads((SHIPPED / "schema.json").read_text(encoding="utf-8")))
    fields = conform(data, schema)
    tissues = {name: _tissue(name, entry, schema) for name, entry in fields["tissues"].items()}
    values = tuple(_value(n, entry, tissues) for n, entry in enumerate(fields["values"]))
    totals = tuple((total["name"], total["values"]) for total in fields.get("totals", ()))
    halos = tuple(Halo(**halo) for halo in fields.get("halos", ()))
    parts = {"values": values, "mirrored": fields.get("mirrored", ()), "tissues": tissues}
    settings = Settings(**fields | parts | {"totals": totals, "halos": halos})
    _check_values(settings)
    _check_halos(settings)
    _check_mirrored(settings)
    for name, tissue in tissues.items():
        for other in tissue.between or ():
            if other not in tissues or tissues[other].between is not None or other == name:
                raise FieldError(
                    _("tissues.{name}.between must name two other tissues that have no between of their own").format(
                        name=name
                    )
                )
    return settings


def _tissue(name: str, entry: Any, schema: dict[str, Any]) -> Tissue:
    """Return a tissue of its JSON entry."""
    where = f"tissues.{name}"
    fields = conform(entry, schema["$defs"]["tissue"], where, schema)
    for contrast, mean in fields.get("intensity", {}).items():
        conform(mean, {"type": "number", "minimum": 0}, f"{where}.intensity.{contrast}")
    low, high = fields.get("share", (0.0, 1.0))
    if low > high:
        raise FieldError(_("{where}.share must be the smallest value, then the largest").format(where=where))
    return Tissue(**fields)


def _value(number: int, entry: dict[str, Any], tissues: dict[str, Tissue]) -> LabelValue:
    """Return a label value of its JSON entry."""
    where = f"values[{number}]"
    if entry["tissue"] not in tissues:
        raise FieldError(
            _("{where}.tissue must be a name in tissues, which '{tissue}' is not").format(
                where=where, tissue=entry["tissue"]
            )
        )
    if "name" in entry and "counts_as" in entry:
        raise FieldError(_("{where} must have a name or counts_as, not both").format(where=where))
    counts_as = entry.pop("counts_as", BACKGROUND)
    return LabelValue(**entry, structure=entry["value"] if entry.get("name") else counts_as)


def _check_values(settings: Settings) -> None:
    """Check that the values name structures, each once.

    Raises:
        FieldError: if they do not.
    """
    names: set[str] = set()
    structures = {value.value for value in settings.values if value.name}
    if not structures:
        raise FieldError(_("values must have at least one entry with a name: there is nothing to segment"))
    for n, value in enumerate(settings.values):
        if value.value in [other.value for other in settings.values[:n]]:
            raise FieldError(
                _("values[{n}].value must differ from the others, but {value} occurs before").format(
                    n=n, value=value.value
                )
            )
        if value.name and value.name.casefold() in names:
            raise FieldError(
                _("values[{n}].name must differ from the others, but '{name}' occurs before").format(
                    n=n, name=value.name
                )
            )
        if value.structure and value.structure not in structures:
            raise FieldError(
                _("values[{n}].counts_as must be the value of a structure, which {value} is not").format(
                    n=n, value=value.structure
                )
            )
        names.add(value.name.casefold())
    for n, (name, parts) in enumerate(settings.totals):
        if not set(parts) <= structures:
            raise FieldError(_("totals[{n}].values must be the values of structures").format(n=n))
        if name.casefold() in names:
            raise FieldError(
                _("totals[{n}].name must differ from the others, but '{name}' occurs before").format(n=n, name=name)
            )
        names.add(name.casefold())


def _check_halos(settings: Settings) -> None:
    """Check that halos are between structures.

    Raises:
        FieldError: if one is not.
    """
    structures = {value.value for value in settings.structures}
    for n, halo in enumerate(settings.halos):
        if not {*halo.beside, *halo.within} <= structures:
            raise FieldError(_("halos[{n}].beside and within must be the values of structures").format(n=n))
        if halo.tissue not in settings.source_tissues:
            raise FieldError(
                _("halos[{n}].tissue must be the tissue of a listed value, which '{tissue}' is not").format(
                    n=n, tissue=halo.tissue
                )
            )


def _check_mirrored(settings: Settings) -> None:
    """Check that mirrored pairs are of known values.

    Raises:
        FieldError: for the first that is not.
    """
    known = {value.value: value for value in settings.values}
    partners: dict[int, int] = {}
    for n, (left, right) in enumerate(settings.mirrored):
        if left == right:
            raise FieldError(_("mirrored[{n}] pairs {left} with itself").format(n=n, left=left))
        for value in (left, right):
            if value not in known:
                raise FieldError(_("mirrored[{n}] has {value}, which is not listed in values").format(n=n, value=value))
            if value in partners:
                raise FieldError(_("mirrored[{n}] has {value}, which is in another pair").format(n=n, value=value))
        if known[left].tissue != known[right].tissue:
            raise FieldError(_("mirrored[{n}] pairs values of different tissues").format(n=n))
        partners |= {left: right, right: left}
    for n, (left, right) in enumerate(settings.mirrored):
        structure = known[left].structure
        if known[right].structure != partners.get(structure, structure):
            raise FieldError(_("mirrored[{n}] pairs values that do not count as a pair of structures").format(n=n))


def _swapped(count: int, pairs: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Return the numbers below `count` with pairs swapped."""
    result = list(range(count))
    for a, b in pairs:
        result[a], result[b] = b, a
    return tuple(result)
