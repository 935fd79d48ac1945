"""Settings from a YAML file, the environment and flags into one frozen dataclass.

In: a dataclass type whose fields are made by `setting`, a path, an environment mapping, `name=value` flags.
Out: an instance, or `SettingsError` with every fault: file, field, what was expected, what was found, how to fix it.
Later sources win: file < environment (`<PREFIX><FIELD>`) < flags.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec

from tokenyield_settings.errors import SettingsError as SettingsError

T = TypeVar("T")
INT_BITS_MAX = 64


def setting(default: Any, help_text: str, *, within: tuple[float, float] | None = None) -> Any:
    """A field of a settings dataclass. `within` are the lowest and the highest value of a number, if
    there is one."""
    return dataclasses.field(default=default, metadata={"help": help_text, "within": within})


def read_yaml(path: Path) -> Any:
    """The document in `path`. Raises `SettingsError` naming the file, and the line where YAML gives one."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """Reports the place of a date that does not exist, such as 2026-02-30, and of a number that is too large:
        Python does not even write out whole numbers of a few thousand digits."""

        def construct_object(self, node: Any, deep: bool = False) -> Any:
            try:
                value = super().construct_object(node, deep)
                if isinstance(value, int) and value.bit_length() > INT_BITS_MAX:
                    raise ValueError(f"expected a number of at most {INT_BITS_MAX} bits, found a larger one")
            except (ValueError, KeyError, OverflowError) as error:
                raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from error
            return value

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{path}: cannot be read ({error}); check the path and its permissions"]) from error
    try:
        return yaml.load(text, Loader=Loader)  # noqa: S506 - it is a safe one
    except RecursionError as error:
        raise SettingsError([f"{path}: expected YAML of a few levels, found deeper nesting; flatten it"]) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        raise SettingsError(
            [f"{path}{where}: expected valid YAML, found: {getattr(error, 'problem', None) or error}"]
        ) from error


def load(
    kind: type[T],
    *,
    file: Path | None,
    environ: Mapping[str, str],
    flags: Iterable[str],
    prefix: str,
) -> T:
    """An instance of dataclass `kind`. Raises `SettingsError` with all faults at once: those of names and types, else
    those of bounds and of the dataclass's own `faults()`."""
    hints = get_type_hints(kind, include_extras=True)
    faults: list[str] = []
    raw: dict[str, tuple[str, Any, bool]] = {}  # field -> (where, value, came as text)
    if file is not None:
        document = read_yaml(file)
        if document is None:
            document = {}
        if not isinstance(document, dict):
            raise SettingsError([f"{file}: expected a mapping of settings, found {type(document).__name__}"])
        raw.update({str(name): (str(file), value, False) for name, value in document.items()})
    for variable, text in environ.items():
        if variable.startswith(prefix) and (name := variable.removeprefix(prefix).lower()) in hints:
            raw[name] = (f"environment {variable}", text, True)
    for flag in flags:
        name, separator, text = flag.partition("=")
        if not separator:
            faults.append(f"--set {flag}: expected name=value, found no '='")
            continue
        raw[name.strip().replace("-", "_")] = (f"--set {name}", text, True)

    values: dict[str, Any] = {}
    for name, (where, value, is_text) in raw.items():
        if name not in hints:
            faults.append(f"{where}: unknown setting '{name}'{nearest(name, hints)}")
            continue
        try:
            values[name] = _convert(value, hints[name], is_text)
        except msgspec.ValidationError as error:
            faults.append(f"{where}: {name}: {error}")
    if faults:
        raise SettingsError(faults)
    settings = kind(**values)
    check = getattr(settings, "faults", tuple)
    if faults := [*_outside(settings), *check()]:
        source = str(file) if file is not None else "settings"
        raise SettingsError([f"{source}: {fault}" for fault in faults])
    return settings


def _outside(settings: Any) -> Iterator[str]:
    """The numbers that are not within their bounds; NaN is within none."""
    for field in dataclasses.fields(settings):
        value, within = getattr(settings, field.name), field.metadata.get("within")
        if within is not None and value is not None and not within[0] <= value <= within[1]:
            yield f"{field.name}: expected {_range(within)}, found {value}"


def _range(within: tuple[float, float]) -> str:
    return " to ".join(f"{bound:.15g}" for bound in within)


def _convert(value: Any, kind: Any, is_text: bool) -> Any:
    """`value` as `kind`. Text from a flag or the environment may hold a list or mapping as YAML; empty text is none."""
    if not is_text:
        return msgspec.convert(value, kind)
    try:
        return msgspec.convert(value or None, kind, strict=False)
    except msgspec.ValidationError:
        if value[:1] not in ("[", "{"):
            if value == "":
                return msgspec.convert(value, kind)
            raise
        import yaml

        return msgspec.convert(yaml.safe_load(value), kind, strict=False)


def nearest(name: str, known: Iterable[str]) -> str:
    """', did you mean X?' when some known name is close to `name`, else the list of known names."""
    known = list(known)
    import difflib  # only for a name that is not known

    close = difflib.get_close_matches(name, known, n=1)
    return f", did you mean '{close[0]}'?" if close else f"; known are {', '.join(sorted(known))}"


def describe(kind: type[Any]) -> list[tuple[str, str, str]]:
    """(name, default, help) of every setting, in the order of the dataclass; docs/settings.md is generated from it."""
    rows = []
    for field in dataclasses.fields(kind):
        default = field.default if field.default is not dataclasses.MISSING else ()
        shown = "" if default in (None, ()) else str(default)
        within = field.metadata.get("within")
        rows.append((field.name, shown, field.metadata.get("help", "") + (f" ({_range(within)})" if within else "")))
    return rows
