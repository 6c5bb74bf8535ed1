def shout(row):
    row["name"] = row["name"].upper()
    return row
