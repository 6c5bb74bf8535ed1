def name(file):
    return file.relative
