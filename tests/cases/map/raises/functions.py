def half(row):
    return {**row, "n": str(int(row["n"]) // 2)}
