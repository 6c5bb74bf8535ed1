"""CSV as bytes: where records and fields lie, what types values have, how they are written. No I/O."""
