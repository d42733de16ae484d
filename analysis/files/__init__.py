"""Read labelled tables, texts and data sets; write the folder of a run."""
