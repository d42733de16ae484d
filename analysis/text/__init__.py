"""Text: language models from a folder or the hub, completions of files of prompts, and measured texts."""
