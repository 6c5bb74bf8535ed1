"""Pipelines that a type checker must refuse, each with the error it is told.

Checked by mypy --strict with warn_unused_ignores (make types), never run: an `ignore` that is not needed any
more, or that names another error, fails. tests/test_typing.py holds the messages.
"""

from aiopipe import (
    Batch,
    Derive,
    Fetch,
    Filter,
    From,
    Head,
    Map,
    Merge,
    Read,
    Route,
    Row,
    Select,
    Tee,
    Unbatch,
    Write,
    stage,
)


@stage
def shout(row: Row, *, column: str = "name") -> Row:
    return row


# A misspelt option.
Read("a.csv", nul="NA")  # type: ignore[call-arg]
Head(3, per_fil=True)  # type: ignore[call-arg]
Write("out/", fromat="csv")  # type: ignore[call-arg]
shout(colum="city")  # type: ignore[call-arg]

# An option of the wrong type, or one that is missing.
Filter(3)  # type: ignore[arg-type]
Head("3")  # type: ignore[arg-type]
Write(3)  # type: ignore[arg-type]
Write(print)  # type: ignore[arg-type]
Derive(net=3)  # type: ignore[arg-type]
shout(column=3)  # type: ignore[arg-type]

# A transform after a sink, a sink after a sink.
Read("a.csv") | Write("b.csv") | Head()  # type: ignore[operator]
Read("a.csv") | Write("b.csv") | Write("c.csv")  # type: ignore[operator]

# A source in the middle, a source after a transform.
Read("a.csv") | Read("b.csv")  # type: ignore[operator]
Read("a.csv") | Head() | Read("b.csv")  # type: ignore[operator]
Head() | Read("b.csv")  # type: ignore[operator]

# A branch has no source, and so cannot be run; a branch without a sink, an input with one; something that is no stage.
(Head() | Write("b.csv")).run()  # type: ignore[attr-defined]
Tee(Head())  # type: ignore[arg-type]
Route({"x > 1": Head()})  # type: ignore[dict-item]
Route({"x > 1": Write("a/")}, otherwize=Write("b/"))  # type: ignore[call-arg]
Merge(Read("a.csv") | Write("b.csv"))  # type: ignore[arg-type]
Merge(Head())  # type: ignore[arg-type]
Read("a.csv") | Tee(Write("a/")) | Head()  # type: ignore[operator]
Write("b.csv") | Head()  # type: ignore[operator]
Read("a.csv") | "head"  # type: ignore[operator]

Tee(Read("a.csv") | Write("b.csv"))  # type: ignore[arg-type]
Route({"x > 1": Read("a.csv")})  # type: ignore[dict-item]
Merge(Read("a.csv"), Write("b.csv"))  # type: ignore[arg-type]
Read("a.csv") | Merge(Read("b.csv"), Read("c.csv"))  # type: ignore[operator]
Read("a.csv") | Route({"x > 1": Write("a/")}) | Write("b/")  # type: ignore[operator]

# Batches and streams: an option that does not exist, one that is missing, what no stage takes.
Batch(100, withn="1s")  # type: ignore[call-arg]
Batch("many")  # type: ignore[arg-type]
(From(range(3)) | Batch(2) | Unbatch()).run()  # type: ignore[attr-defined]
Batch(2) | From(range(3))  # type: ignore[operator]
Map(print, concurency=3)  # type: ignore[call-arg]
Fetch("https://host/{id}", retry=3)  # type: ignore[call-arg]

# A stream that is run, a pipeline that is iterated, an option of the job that does not exist.
(Read("a.csv") | Head()).run()  # type: ignore[attr-defined]
(Read("a.csv") | Write("b.csv")).stream()  # type: ignore[attr-defined]
_ = (Read("a.csv") | Write("b.csv")).run(rejets="x")  # type: ignore[call-arg]
Select("a").columns = ("b",)  # type: ignore[misc]
