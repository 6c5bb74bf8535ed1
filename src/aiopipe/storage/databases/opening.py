"""The table behind an address, with the driver that it needs."""

from __future__ import annotations

from aiopipe.storage.databases.address import Address, Filling
from aiopipe.storage.databases.table import Table

__all__ = ["open_table"]


def open_table(address: Address, filling: Filling, *, reading: bool = False) -> Table:
    """Connect. reading: only to look; the database is neither made nor changed.

    Blocks; OutputError (when reading, InputError) where the database cannot be reached, UsageError where its driver is
    missing.
    """
    if address.scheme == "postgresql":
        from aiopipe.storage.databases.postgres import PostgresTable

        return PostgresTable(address, filling, reading=reading)
    from aiopipe.storage.databases.sqlite import SqliteTable

    return SqliteTable(address, filling, reading=reading)
