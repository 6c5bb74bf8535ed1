"""Django's ORM at both ends of a pipeline: querysets in, `bulk_create` out.

    from aiopipe.django import Save, rows

    Read(rows(Order.objects.filter(paid=True), "id", "amount")) | Write("paid.csv")
    Read("orders.csv") | Filter("amount > 0") | Write(Save(Order), batch=500)

Every use of the ORM goes through asgiref to the one thread that Django's synchronous code shares: in an async view that
of the request, in a management command the main thread. Django itself is the user's; nothing is imported before use.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from itertools import islice
from typing import Any

from asgiref.sync import sync_to_async

from aiopipe.errors import OutputError, UnknownNameError, nearest

__all__ = ["Save", "rows"]


async def rows(queryset: Any, *fields: str, size: int = 2000) -> AsyncGenerator[list[dict[str, Any]], None]:
    """The rows of a queryset, for `Read`: `size` at a time, as the database gives them.

    fields: as for `queryset.values()`; all of the model's, if none are named. A query that was begun is closed when
    the run ends, however it ends.
    """
    found = await sync_to_async(_begun, thread_sensitive=True)(queryset, fields, size)
    try:
        while some := await sync_to_async(_next, thread_sensitive=True)(found, size):
            yield some
    finally:
        await sync_to_async(found.close, thread_sensitive=True)()


def _begun(queryset: Any, fields: Sequence[str], size: int) -> Any:
    values = queryset.values(*fields)

    def every() -> Any:  # Django's own iterator has no close() where it is not a generator
        yield from values.iterator(chunk_size=size)

    return every()


def _next(found: Any, size: int) -> list[dict[str, Any]]:
    return list(islice(found, size))


class Save:
    """Rows into a model, for `Write`: each batch by one `bulk_create` in one transaction.

    Text becomes what the fields hold: an empty field is None where the field may be null, `true` and `false` are
    booleans. using: the database; options: further arguments of bulk_create, such as ignore_conflicts=True, or
    update_conflicts=True with update_fields and unique_fields, which make it safe to run again. As bulk_create does,
    it calls no save() and sends no signals.
    """

    def __init__(self, model: Any, *, using: str | None = None, **options: Any) -> None:
        self._model = model
        self._using = using
        self._options = options
        self._fields = {f.attname: f for f in model._meta.concrete_fields} | {
            f.name: f for f in model._meta.concrete_fields if not f.is_relation
        }
        self.__name__ = f"Save({model.__name__})"

    def __repr__(self) -> str:
        return self.__name__

    async def __call__(self, some: Sequence[Mapping[str, Any]]) -> None:
        """Save a batch; UnknownNameError for a column the model does not have, OutputError for a value."""
        await sync_to_async(self._save, thread_sensitive=True)(some)

    def _save(self, some: Sequence[Mapping[str, Any]]) -> None:
        from django.db import router, transaction

        made = [self._made(row) for row in some]
        using = self._using or router.db_for_write(self._model)
        with transaction.atomic(using=using):
            self._model._base_manager.using(using).bulk_create(made, **self._options)

    def _made(self, row: Mapping[str, Any]) -> Any:
        values = {}
        for name, value in row.items():
            field = self._fields.get(name)
            if field is None:
                model = self._model.__name__
                raise UnknownNameError(
                    f"{model} has no field {name!r}", stage="write", hint=nearest(name, self._fields)
                )
            values[field.attname] = self._value(field, value)
        return self._model(**values)

    def _value(self, field: Any, value: Any) -> Any:
        from django.core.exceptions import ValidationError

        if value == "" and field.null:
            return None
        if field.get_internal_type() == "BooleanField" and isinstance(value, str):
            value = {"true": True, "false": False}.get(value.lower(), value)
        try:
            return field.to_python(value)
        except (ValidationError, ValueError, TypeError) as error:
            said = getattr(error, "messages", None) or [str(error)]
            raise OutputError(
                f"{field.name}: {value!r}: {' '.join(map(str, said))}",
                stage="write",
                hint="mend it in a stage before, or filter such records out",
            ) from error
