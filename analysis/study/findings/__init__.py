"""Answer the questions of a study from its frame: one function per question, which returns its verdict."""
