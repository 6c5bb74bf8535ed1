asked = []


async def half(row):
    asked.append(row["id"])
    if row["id"] == "1" and asked.count("1") == 1:
        raise TimeoutError
    return {**row, "n": str(int(row["n"]) // 2), "half": "yes"}
