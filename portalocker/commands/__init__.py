"""One file per word of `python -m portalocker`."""
