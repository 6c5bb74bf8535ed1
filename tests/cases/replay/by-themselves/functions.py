def numbered(row):
    row["id"] = {"two": "2"}.get(row["id"], row["id"])
    return {**row, "next": int(row["id"]) + 1}
