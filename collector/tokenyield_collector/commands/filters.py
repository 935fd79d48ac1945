"""What commands and their users call columns: `--by team,model` and `--where team=search`."""

from collections.abc import Sequence


def columns_of(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def where_of(pairs: Sequence[str]) -> dict[str, str]:
    """Column -> value. Raises `ParameterError`."""
    from tokenyield_collector.errors import ParameterError

    for pair in pairs:
        if "=" not in pair:
            raise ParameterError("where", expected="a column and a value", found=f"'{pair}'", fix="write team=search")
    return dict(pair.partition("=")[::2] for pair in pairs)
