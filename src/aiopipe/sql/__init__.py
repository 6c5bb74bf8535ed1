"""SQL expressions over the columns of a batch, record by record: DuckDB's dialect, Arrow's speed where equal.

`parse` names the columns an expression needs; `compile_expression` binds it to their types and gives
something to evaluate. duckdb is imported when something asks for it that is not plain (`plain.py`): that takes 0.1 s.
"""

from aiopipe.sql.expression import Evaluated, Expression, compile_expression, compile_predicate
from aiopipe.sql.plain import wants_duckdb
from aiopipe.sql.syntax import Parsed, parse

__all__ = ["Evaluated", "Expression", "Parsed", "compile_expression", "compile_predicate", "parse", "wants_duckdb"]
