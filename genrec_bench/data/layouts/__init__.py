"""The file layouts in which other projects publish prepared data; `data/importers.py` picks one."""
