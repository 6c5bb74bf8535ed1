"""Tables of databases as sinks: rows and the note that says whose they are, in one transaction."""
