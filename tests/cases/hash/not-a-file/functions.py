def untimed(item):
    del item["mtime_ns"]
    return item
