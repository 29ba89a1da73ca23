"""Each kind of work as one file: it returns its rows."""
