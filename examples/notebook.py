# Cells of a notebook, as editors show them between the `# %%` lines; `jupytext --to ipynb` makes an .ipynb of it.
# A kernel's loop runs already, so a pipeline is awaited at the top of a cell; `run_sync()` would say so.
# ruff: noqa: F704, D100, D103

# %%
from aiopipe import Collect, Derive, Filter, Head, Map, Read

flights = Read("sample_data/flights/*.csv", null="NA")
late = flights | Filter("arr_delay > 120") | Derive(gained="dep_delay - arr_delay")

# %% Look at a few rows: `head` reads no more than it needs.
report = await (late | Head(3) | Collect()).run()
for row in report.items:
    print(row["carrier"], row["flight"], row["arr_delay"], row["gained"])

# %% Rows one by one: leaving the block closes the files.
carriers: dict[str, int] = {}
async with late.stream() as rows:
    async for row in rows:
        carriers[row["carrier"]] = carriers.get(row["carrier"], 0) + 1
print(sorted(carriers.items(), key=lambda item: -item[1])[:3])

# %% Functions of a cell can be stages at once.
names = {row["carrier"]: row["name"] for row in (await (Read("sample_data/airlines.csv") | Collect()).run()).items}


async def with_name(row):
    return {**row, "airline": names[row["carrier"]]}


report = await (late | Map(with_name, concurrency=8) | Head(1) | Collect()).run()
print(report.items[0]["airline"])

# %% What happened, in numbers that add up.
print(report)
