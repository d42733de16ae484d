"""Files: labelled tables and texts that are read, and the folders of runs that are written."""
