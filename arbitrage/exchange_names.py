"""The exchanges by name, for users of the Python interface: one for each dialect that there is."""

from __future__ import annotations

from collections.abc import Iterator
from enum import EnumType, StrEnum

from pipeline.model.dialects import dialect_names


class _ByName(EnumType):
    """Also has the dialects that a configuration (``dialects:``) has made known since the enum was made."""

    def __getattr__(cls, name: str) -> ExchangeName:
        if name.isupper() and name.lower() in dialect_names():
            return ExchangeName(name.lower())
        raise AttributeError(f"ExchangeName has no {name}; it has {', '.join(dialect_names()).upper()}")

    def __iter__(cls) -> Iterator[ExchangeName]:  # type: ignore[override]
        return map(ExchangeName, dialect_names())

    def __len__(cls) -> int:
        return len(dialect_names())


class ExchangeName(StrEnum, metaclass=_ByName):
    """An exchange (its dialect's name in capitals: ``ExchangeName.MEXC``); ``"mexc_spot"`` is a venue of it. The engine
    itself knows exchanges by the names in its configuration. Raises ValueError for another name."""

    vars().update({name.upper(): name for name in dialect_names()})

    @classmethod
    def _missing_(cls, value: object) -> ExchangeName:
        if not isinstance(value, str) or value not in dialect_names():
            raise ValueError(f"found {value!r}, wanted one of {', '.join(dialect_names())}")
        member = str.__new__(cls, value)
        member._name_, member._value_ = value.upper(), str(value)
        cls._member_map_[member._name_] = cls._value2member_map_[value] = member
        return member
